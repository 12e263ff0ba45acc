// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A text as a QR code (ISO/IEC 18004) in the terminal: two of its modules in each character.

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of light around the code, without which readers do not find it (section 5.3.8).
const QUIET: i32 = 4;

/// The lines to be printed: dark on light whatever the terminal's colours are. None if the text is too long.
pub(super) fn lines(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let dark = |x: i32, y: i32| code.get_module(x, y);
    let mut out = String::new();
    for y in (-QUIET..code.size() + QUIET).step_by(2) {
        // Black on white (ECMA-48, SGR 30 and 107): a code that is light on dark is not read by every phone.
        out.push_str("\x1b[30;107m");
        for x in -QUIET..code.size() + QUIET {
            out.push(match (dark(x, y), dark(x, y + 1)) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            });
        }
        out.push_str("\x1b[0m\n");
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a camera makes of the lines (brightness, eight points for each module), decoded.
    fn read(lines: &str) -> String {
        const SCALE: usize = 8;
        let rows: Vec<Vec<char>> = lines
            .lines()
            .map(|line| line.strip_prefix("\x1b[30;107m").unwrap())
            .map(|line| line.strip_suffix("\x1b[0m").unwrap().chars().collect())
            .collect();
        let (width, height) = (rows[0].len() * SCALE, rows.len() * 2 * SCALE);
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let half = y / SCALE;
            let dark = match (rows[half / 2][x / SCALE], half % 2) {
                (' ', _) | ('▄', 0) | ('▀', 1) => false,
                ('█' | '▀', 0) | ('█' | '▄', 1) => true,
                other => panic!("{other:?}"),
            };
            if dark { 0 } else { 255 }
        });
        image.detect_grids()[0].decode().unwrap().1
    }

    #[test]
    fn a_camera_reads_the_same_text() {
        let text = "# NetworkName = demo\n[Interface]\nPrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
                    Address = 10.77.0.2/24, fd77::2/64\nMTU = 1420\n\n[Peer]\n\
                    PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
                    PresharedKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n\
                    AllowedIPs = 10.77.0.0/24, fd77::/64\nEndpoint = server.example:9993\nPersistentKeepalive = 25\n";
        let lines = lines(text).unwrap();
        assert!(lines.lines().count() <= 45, "{}", lines.lines().count());
        assert_eq!(read(&lines), text);
    }

    #[test]
    fn too_much_is_no_code() {
        assert!(lines(&"x".repeat(2954)).is_none());
        assert!(lines("x").is_some());
    }
}
