// SPDX-License-Identifier: Apache-2.0 OR MIT
//! netcon-shim and netcon-supervisor, which lie beside this program: their pages are theirs, and what shells complete for them
//! is made here of what they say in their help.

use super::generated::Shell;
use super::output::Failure;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Shim,
    Supervisor,
}

impl Program {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Shim, Self::Supervisor];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shim => "netcon-shim",
            Self::Supervisor => "netcon-supervisor",
        }
    }

    /// The script by which a shell completes it.
    pub(super) fn completions(self, shell: Shell) -> Result<Vec<u8>, Failure> {
        let help = output_of(&folder()?.join(self.name()), "-h")?;
        let options = options(&String::from_utf8_lossy(&help));
        Ok(script(self, shell, &options).into_bytes())
    }
}

/// Where this program lies.
pub(super) fn folder() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(Path::to_owned))
        .ok_or_else(|| Failure::other("cannot find out where this program lies"))
}

/// What a program prints when it is asked with one argument.
pub(super) fn output_of(program: &Path, argument: &str) -> Result<Vec<u8>, Failure> {
    let output = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::file(format!("cannot run {}: {error}", program.display())))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Failure::file(format!(
            "{} {argument} failed; the three programs have to be of one release",
            program.display()
        )))
    }
}

/// An option as the help tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opt {
    long: String,
    short: Option<char>,
    /// What its value is called.
    value: Option<String>,
    about: String,
}

impl Opt {
    fn takes(&self) -> Value {
        match self.value.as_deref() {
            None => Value::Nothing,
            Some("NAME") => Value::Network,
            Some("DIR") => Value::Folder,
            Some("FILE") => Value::File,
            Some(_) => Value::Other,
        }
    }
}

/// What can be completed where the value of an option stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Nothing,
    Network,
    Folder,
    File,
    Other,
}

/// The options of a help text: lines such as `  -x, --long <VALUE>  About it`.
fn options(help: &str) -> Vec<Opt> {
    let option = |line: &str| {
        let line = line.trim_start();
        let (names, about) = line.split_once("  ").unwrap_or((line, ""));
        let mut words = names.split([' ', ',']).filter(|word| !word.is_empty());
        let mut found = Opt {
            long: String::new(),
            short: None,
            value: None,
            // What follows is about defaults and details.
            about: plain(about.split([';', '(', '[', ':']).next().unwrap_or_default()),
        };
        for word in words.by_ref() {
            match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(long), _) => found.long = long.trim_end_matches('.').to_owned(),
                (None, Some(short)) => found.short = short.chars().next(),
                (None, None) => found.value = Some(word.trim_matches(['<', '>']).to_owned()),
            }
        }
        (!found.long.is_empty()).then_some(found)
    };
    let lines = help.lines().skip_while(|line| *line != "Options:").skip(1);
    lines
        .take_while(|line| line.starts_with(' '))
        .filter(|line| line.trim_start().starts_with('-'))
        .filter_map(option)
        .collect()
}

/// Without what a shell takes for its own, whatever the quotes.
fn plain(text: &str) -> String {
    let harmless = |c: &char| c.is_alphanumeric() || " -,./_".contains(*c);
    text.trim().chars().filter(harmless).collect()
}

fn script(program: Program, shell: Shell, options: &[Opt]) -> String {
    match shell {
        Shell::Bash => bash(program, options),
        Shell::Zsh => zsh(program, options),
        Shell::Fish => fish(program, options),
    }
}

/// What names the networks there are, a line each; nothing where no supervisor runs.
const NETWORKS: &str = "netcon completions --networks 2>/dev/null";

fn bash(program: Program, options: &[Opt]) -> String {
    let name = program.name();
    let function = format!("_{}", name.replace('-', "_"));
    let names: Vec<String> = options
        .iter()
        .flat_map(|option| {
            let short = option.short.map(|short| format!("-{short}"));
            [Some(format!("--{}", option.long)), short]
        })
        .flatten()
        .collect();
    let names = names.join(" ");
    let mut with_value = String::new();
    for option in options {
        let words = match option.takes() {
            Value::Nothing => continue,
            Value::Network => format!("compgen -W \"$({NETWORKS})\" -- \"$word\""),
            Value::Folder => "compgen -d -- \"$word\"".to_owned(),
            Value::File => "compgen -f -- \"$word\"".to_owned(),
            Value::Other => ":".to_owned(),
        };
        with_value.push_str(&format!(
            "        --{}) mapfile -t COMPREPLY < <({words}); return ;;\n",
            option.long
        ));
    }
    let values: Vec<String> = options
        .iter()
        .filter(|option| option.takes() != Value::Nothing)
        .map(|option| format!("--{}", option.long))
        .collect();
    let values = values.join("|");
    // Behind the options of the shim stands a command line of its own.
    let rest = match program {
        Program::Shim => {
            "    if ((at < COMP_CWORD)); then\n        \
             if declare -F _command_offset >/dev/null; then _command_offset \"$at\"; else mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); fi\n        \
             return\n    fi\n"
        }
        Program::Supervisor => "",
    };
    let last = match program {
        Program::Shim => "    mapfile -t COMPREPLY < <(compgen -c -- \"$word\")\n",
        Program::Supervisor => "",
    };
    format!(
        "# bash completion for {name}\n\
         {function}() {{\n    \
         local word=${{COMP_WORDS[COMP_CWORD]}} at option=\n    \
         [[ $word == = ]] && word=\n    \
         for ((at = 1; at < COMP_CWORD; at++)); do\n        \
         option=\n        \
         case ${{COMP_WORDS[at]}} in\n        \
         {values})\n            \
         option=${{COMP_WORDS[at]}}\n            \
         [[ ${{COMP_WORDS[at + 1]}} == = ]] && ((at++))\n            \
         ((at++)) ;;\n        \
         --) ((at++)); break ;;\n        \
         -*) ;;\n        \
         *) break ;;\n        \
         esac\n    \
         done\n    \
         if ((at > COMP_CWORD)); then\n        \
         case $option in\n{with_value}        esac\n    \
         fi\n\
         {rest}    \
         if [[ $word == -* ]]; then\n        \
         mapfile -t COMPREPLY < <(compgen -W \"{names}\" -- \"$word\")\n        \
         return\n    \
         fi\n\
         {last}\
         }}\n\
         complete -F {function} {name}\n"
    )
}

fn zsh(program: Program, options: &[Opt]) -> String {
    let name = program.name();
    let function = format!("_{}", name.replace('-', "_"));
    let mut specs = String::new();
    for option in options {
        let value = match option.takes() {
            Value::Nothing => String::new(),
            Value::Network => format!(":network:{function}_networks"),
            Value::Folder => ":folder:_files -/".to_owned(),
            Value::File => ":file:_files".to_owned(),
            Value::Other => ":value: ".to_owned(),
        };
        let equals = if value.is_empty() { "" } else { "=" };
        let about = &option.about;
        specs.push_str(&format!(
            " \\\n        '--{}{equals}[{about}]{value}'",
            option.long
        ));
        if let Some(short) = option.short {
            specs.push_str(&format!(" \\\n        '-{short}[{about}]{value}'"));
        }
    }
    if program == Program::Shim {
        specs.push_str(
            " \\\n        '(-)1:program:_command_names -e' \\\n        '*::arguments:_normal'",
        );
    }
    format!(
        "#compdef {name}\n\
         {function}_networks() {{\n    \
         local -a networks\n    \
         networks=(${{(f)\"$({NETWORKS})\"}})\n    \
         compadd -a networks\n\
         }}\n\
         {function}() {{\n    \
         _arguments{specs}\n\
         }}\n\
         if [ \"$funcstack[1]\" = \"_{name}\" ]; then\n    \
         {function} \"$@\"\n\
         else\n    \
         compdef {function} {name}\n\
         fi\n"
    )
}

fn fish(program: Program, options: &[Opt]) -> String {
    let name = program.name();
    let mut script = format!("# fish completion for {name}\n");
    for option in options {
        let short = option
            .short
            .map_or_else(String::new, |short| format!(" -s {short}"));
        let value = match option.takes() {
            Value::Nothing => String::new(),
            Value::Network => format!(" -x -a '({NETWORKS})'"),
            Value::Folder => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::File => " -r".to_owned(),
            Value::Other => " -x".to_owned(),
        };
        script.push_str(&format!(
            "complete -c {name} -l {}{short}{value} -d '{}'\n",
            option.long, option.about
        ));
    }
    match program {
        Program::Shim => script.push_str(&format!(
            "complete -c {name} -x -a '(__fish_complete_subcommand -- --net)'\n"
        )),
        Program::Supervisor => script.push_str(&format!("complete -c {name} -f\n")),
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Does\n\nUsage: x [OPTIONS]\n\nOptions:\n      --state-dir <DIR>  Keep [default: 'x']\n  \
        --net NAME  Network (default: it's)\n  -v, --verbose...       Log more (-v)\n      --plain            $(x) `y`; z\n\nExit:\n  --no  x\n";

    #[test]
    fn options_are_what_the_help_tells() {
        let found: Vec<_> = options(HELP)
            .into_iter()
            .map(|o| (o.long.clone(), o.short, o.takes(), o.about))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "state-dir".to_owned(),
                    None,
                    Value::Folder,
                    "Keep".to_owned()
                ),
                ("net".to_owned(), None, Value::Network, "Network".to_owned()),
                (
                    "verbose".to_owned(),
                    Some('v'),
                    Value::Nothing,
                    "Log more".to_owned()
                ),
                ("plain".to_owned(), None, Value::Nothing, String::new()),
            ]
        );
        assert!(options("").is_empty());
    }

    #[test]
    fn every_script_knows_every_option() {
        for program in Program::ALL {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                let script = script(program, shell, &options(HELP));
                for option in ["state-dir", "net", "verbose", "plain"] {
                    assert!(script.contains(option), "{shell:?} {option}\n{script}");
                }
                assert!(script.contains(program.name()) && !script.contains("--no "));
            }
        }
    }
}
