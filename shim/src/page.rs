// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The manual page, from the text of `--help`: the command line has one definition.

/// The page in roff (man(7)).
pub(crate) fn page(help: &str, version: &str) -> String {
    let mut page = format!(
        ".\\\" SPDX-License-Identifier: Apache-2.0 OR MIT\n\
         .TH netcon-shim 1 2026-11-21 \"netcon {version}\" \"Network Containers\"\n.SH NAME\n"
    );
    let mut lines = help.lines();
    let title = lines.next().unwrap_or_default();
    page.push_str(&format!("netcon\\-shim \\- {}\n", escaped(title)));
    for line in lines {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if let Some(usage) = line.strip_prefix("Usage: ") {
            page.push_str(&format!(
                ".SH SYNOPSIS\n{}\n.SH DESCRIPTION\n{}.\n",
                escaped(usage),
                escaped(title)
            ));
        } else if let (0, Some(heading)) = (indent, line.strip_suffix(':')) {
            page.push_str(&format!(".SH {}\n", escaped(&heading.to_uppercase())));
        } else if let (0, Some((heading, rest))) = (indent, text.split_once(": ")) {
            page.push_str(&format!(
                ".SH {}\n{}\n",
                escaped(&heading.to_uppercase()),
                escaped(rest)
            ));
        } else if let (1..=3, Some((name, meaning))) = (indent, text.split_once("  ")) {
            page.push_str(&format!(
                ".TP\n\\fB{}\\fR\n{}\n",
                escaped(name),
                escaped(meaning.trim())
            ));
        } else if !text.is_empty() {
            page.push_str(&format!("{}\n", escaped(text)));
        }
    }
    page.push_str(".SH SEE ALSO\nnetcon(1), netcon\\-supervisor(1)\n");
    page
}

/// A text in which roff sees no request and no escape.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_help_says() {
        let help = crate::args::HELP;
        let page = page(help, "1.2.3");
        let words = |text: &str| -> Vec<String> {
            let plain = text
                .replace("\\-", "-")
                .replace("\\fB", "")
                .replace("\\fR", "");
            plain.split_whitespace().map(str::to_lowercase).collect()
        };
        let there = words(&page);
        for word in words(help) {
            let word = word.trim_end_matches(':');
            if word != "usage" {
                assert!(
                    there
                        .iter()
                        .any(|other| other.trim_end_matches(':') == word),
                    "{word}\n{page}"
                );
            }
        }
        for heading in ["NAME", "SYNOPSIS", "OPTIONS", "ENVIRONMENT", "EXIT STATUS"] {
            assert!(
                page.contains(&format!("\n.SH {heading}\n")),
                "{heading}\n{page}"
            );
        }
        assert!(page.contains("\n.TP\n\\fB\\-\\-net NAME\\fR\n"), "{page}");
    }
}
