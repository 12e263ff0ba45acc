// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

const A: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const B: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const C: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn minimal() -> String {
    format!("[Interface]\nPrivateKey={A}\nAddress=10.0.0.2/24\n")
}

fn peer(lines: &str) -> Result<Peer, ParseError> {
    let text = format!("{}[Peer]\nPublicKey={B}\n{lines}\n", minimal());
    File::parse(&text).map(|mut file| file.peers.remove(0))
}

fn problem(text: &str) -> (Option<usize>, Problem) {
    let error = File::parse(text).unwrap_err();
    (error.line, error.problem)
}

fn shown(prefixes: &[Prefix]) -> Vec<String> {
    prefixes.iter().map(ToString::to_string).collect()
}

#[test]
fn an_exported_file_looks_like_this_and_reads_back() {
    let file = File {
        network_name: Some("demo".into()),
        interface: Interface {
            name: Some("laptop".into()),
            private_key: A.parse().unwrap(),
            addresses: vec![
                "10.77.0.2/24".parse().unwrap(),
                "fd77::2/64".parse().unwrap(),
            ],
            listen_port: None,
            mtu: Some(1420),
            unused: Unused {
                fw_mark: Some(0xca6c),
                table: Some("off".into()),
                dns: vec!["1.1.1.1".into(), "lan".into()],
                save_config: Some(false),
            },
        },
        peers: vec![Peer {
            name: Some("server".into()),
            public_key: B.parse().unwrap(),
            preshared_key: Some(C.parse().unwrap()),
            endpoint: Some("[2001:db8::1]:9993".into()),
            allowed_ips: vec![
                "10.77.0.0/24".parse().unwrap(),
                "fd77::/64".parse().unwrap(),
            ],
            persistent_keepalive: Some(25),
        }],
        ignored: Vec::new(),
    };
    let text = file.to_string();
    assert_eq!(
        text,
        format!(
            "# NetworkName = demo\n[Interface]\n# Name = laptop\nPrivateKey = {A}\nAddress = 10.77.0.2/24, fd77::2/64\nMTU = 1420\nFwMark = 0xca6c\nDNS = 1.1.1.1, lan\nTable = off\nSaveConfig = false\n\n\
             [Peer]\n# Name = server\nPublicKey = {B}\nPresharedKey = {C}\nAllowedIPs = 10.77.0.0/24, fd77::/64\n\
             Endpoint = [2001:db8::1]:9993\nPersistentKeepalive = 25\n"
        )
    );
    let mut again = File::parse(&text).unwrap();
    assert_eq!(again.ignored.len(), 4, "{:?}", again.ignored);
    again.ignored.clear();
    assert_eq!(again, file);
}

#[test]
fn files_of_other_tools_are_read() {
    let text = format!(
        "\u{feff}# made by hand\r\n[interface]\r\n  privatekey={A} # mine\r\nADDRESS = 10.0.0.2 , fd00::2/64\r\nAddress=10.1.0.2/16\r\n\
         DNS = 1.1.1.1, lan\r\nListenPort = 51820\r\nFwMark = 0xca6c\r\nTable = off\r\nMTU=1380\r\nSaveConfig = true\r\n\
         PreUp = a; b = c\r\nPostUp = iptables -A FORWARD -i %i -j ACCEPT # x\r\nPreDown=d\r\nPostDown=e\r\n\r\n[PEER]\r\n\
         PublicKey={B}\r\nAllowedIPs=10.0.0.0/8\r\nAllowedIPs = 10.9.9.9/24, ::/0, 10.0.0.1\r\nEndpoint=vpn.example.org:51820\r\n\
         PersistentKeepalive = off\r\n[Peer]\r\nPublicKey={C}\r\nAllowedIPs =\r\n"
    );
    let file = File::parse(&text).unwrap();
    assert_eq!(
        shown(&file.interface.addresses),
        ["10.0.0.2/32", "fd00::2/64", "10.1.0.2/16"]
    );
    assert_eq!(
        (file.interface.listen_port, file.interface.mtu),
        (Some(51820), Some(1380))
    );
    assert_eq!(file.peers.len(), 2);
    assert_eq!(
        shown(&file.peers[0].allowed_ips),
        ["10.0.0.0/8", "10.9.9.0/24", "::/0", "10.0.0.1/32"]
    );
    assert_eq!(
        file.peers[0].endpoint.as_deref(),
        Some("vpn.example.org:51820")
    );
    assert_eq!(file.peers[0].persistent_keepalive, None);
    assert!(file.peers[1].allowed_ips.is_empty());
    assert_eq!((file.network_name, file.interface.name), (None, None));
    let ignored = [
        "Address",
        "DNS",
        "ListenPort",
        "FwMark",
        "Table",
        "SaveConfig",
        "PreUp",
        "PostUp",
        "PreDown",
        "PostDown",
    ];
    assert_eq!(file.ignored.len(), ignored.len());
    for (sentence, key) in file.ignored.iter().zip(ignored) {
        assert!(
            sentence.starts_with(key) && sentence.contains("(line "),
            "{sentence}"
        );
        assert!(!sentence.contains("iptables"), "{sentence}");
    }
}

#[test]
fn values_have_their_limits() {
    for (lines, seconds) in [
        ("PersistentKeepalive=0", None),
        ("PersistentKeepalive=00", None),
        ("PersistentKeepalive=65535", Some(65535)),
    ] {
        assert_eq!(peer(lines).unwrap().persistent_keepalive, seconds);
    }
    for bad in ["65536", "-1", "+1", "", "1s", "٣"] {
        assert!(
            peer(&format!("PersistentKeepalive={bad}")).is_err(),
            "{bad}"
        );
    }
    for bad in [
        "1.2.3.4", "h:0", "h:65536", ":1", "[::1]", "::1:5", "[h]:1", "h:+1", "a:b:1", "-h:1", "",
    ] {
        assert_eq!(
            peer(&format!("Endpoint={bad}")).unwrap_err().problem,
            Problem::Endpoint(bad.replace(' ', "")),
            "{bad}"
        );
    }
    for bad in [
        "10.0.0.0/33",
        "::/129",
        "10.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "x",
        "1.2.3.4/8/8",
        "010.0.0.1",
    ] {
        assert_eq!(
            peer(&format!("AllowedIPs={bad}")).unwrap_err().problem,
            Problem::PrefixText(bad.into()),
            "{bad}"
        );
    }
    for bad in [
        "",
        "AQ==",
        &A[..43],
        &format!("{A}="),
        "!QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    ] {
        assert_eq!(
            peer(&format!("PresharedKey={bad}")).unwrap_err().problem,
            Problem::KeyOf("PresharedKey"),
            "{bad}"
        );
    }
    assert!(File::parse(&format!("{}MTU=0", minimal())).is_err());
    assert!(File::parse(&format!("{}ListenPort=0", minimal())).is_ok());
}

#[test]
fn allowed_ips_can_be_added_and_taken_away() {
    let peer =
        peer("AllowedIPs=10.0.0.0/8, +10.1.0.0/16\nAllowedIPs=-10.0.0.0/8, 10.1.0.0/16").unwrap();
    assert_eq!(shown(&peer.allowed_ips), ["10.1.0.0/16"]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let text = minimal();
    assert_eq!(problem(""), (None, Problem::NoInterface));
    assert_eq!(problem("[Interface]"), (Some(1), Problem::NoPrivateKey));
    assert_eq!(
        problem(&format!("[Interface]\nPrivateKey={A}")),
        (Some(1), Problem::NoAddress)
    );
    assert_eq!(problem("a=b"), (Some(1), Problem::Outside("a".into())));
    assert_eq!(problem("hello"), (Some(1), Problem::NoAssignment));
    assert_eq!(
        problem("[Interface\n"),
        (Some(1), Problem::Section("[Interface".into()))
    );
    assert_eq!(
        problem(&format!("{text}[Peer]\n")),
        (Some(4), Problem::NoPublicKey)
    );
    let unknown = |key: &str, section| Problem::UnknownKey {
        key: key.into(),
        section,
    };
    assert_eq!(
        problem(&format!("{text}Jc = 4")),
        (Some(4), unknown("Jc", "Interface"))
    );
    assert_eq!(
        problem(&format!("{text}[Peer]\nMTU = 4")),
        (Some(5), unknown("MTU", "Peer"))
    );
    let sentence = File::parse(&format!("{text}[Peer]\nPublicKey=secret"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        sentence,
        "line 5: PublicKey is no key: a key is 44 characters of base64"
    );
}

#[test]
fn names_are_taken_from_comments_only_if_they_are_names() {
    let text = format!(
        "#NetworkName=demo\n# Name = nobody\n{}#name=  me\n# Name = late\n[Peer]\n# Name = Bob's phone!\n# x = y\nPublicKey={B}\n",
        minimal()
    );
    let file = File::parse(&text).unwrap();
    assert_eq!(file.network_name.as_deref(), Some("demo"));
    assert_eq!(file.interface.name.as_deref(), Some("me"));
    assert_eq!(file.peers[0].name, None);
}

#[test]
fn nothing_breaks_out_of_its_line() {
    let mut file = File::parse(&format!("{}[Peer]\nPublicKey={B}\n", minimal())).unwrap();
    file.network_name = Some("x\nPostUp = rm".into());
    file.interface.name = Some("# y".into());
    file.peers[0].name = Some("a b".into());
    file.peers[0].endpoint = Some("h:1\nPostUp = rm".into());
    let text = file.to_string();
    assert!(
        !text.contains("PostUp") && !text.contains('#') && !text.contains("Endpoint"),
        "{text}"
    );
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(problem(&" ".repeat(LARGEST + 1)), (None, Problem::TooLarge));
    let mut text = minimal();
    for _ in 0..=MOST_PEERS {
        text.push_str("[Peer]\n");
    }
    assert_eq!(problem(&text).1, Problem::TooManyPeers);
    let mut text = minimal();
    for index in 0..=MOST_PREFIXES {
        text.push_str(&format!(
            "Address=10.{}.{}.1/24\n",
            index / 256,
            index % 256
        ));
    }
    assert_eq!(problem(&text).1, Problem::TooManyPrefixes);
    let long = File::parse(&format!("{}{}=1", minimal(), "ä".repeat(10_000))).unwrap_err();
    assert!(long.to_string().len() < 200);
}

#[test]
fn secrets_are_not_shown() {
    let file = File::parse(&format!(
        "{}[Peer]\nPublicKey={B}\nPresharedKey={C}\n",
        minimal()
    ))
    .unwrap();
    let text = format!("{file:?}");
    assert!(
        !text.contains(A) && !text.contains(C) && text.contains("Key(..)"),
        "{text}"
    );
    // The unit tests' bytes themselves would be 1, 1, 1, … in a derived Debug.
    assert!(
        !text.contains("1, 1, 1") && !text.contains("3, 3, 3"),
        "{text}"
    );
}

/// Whatever is read can be written, and reads back as the same. xorshift64*, fixed seeds: a failure repeats.
#[test]
fn damaged_files_are_refused_or_read_back_the_same() {
    let whole = format!(
        "# NetworkName = demo\n{}MTU=1400\nListenPort=7\nPostUp=x\n# Name = me\n[Peer]\n# Name = you\nPublicKey={B}\nPresharedKey={C}\n\
         AllowedIPs=10.0.0.0/8,-fd00::/8,+fd00::/64\nEndpoint=[fe80::1%3]:80\nPersistentKeepalive=off\n",
        minimal()
    );
    let pieces = [
        "[Peer]", "[", "]", "=", "#", "\n", ",", "/", "-", "+", "0", "65536", "Address", " ", "\0",
        "é", "\u{feff}", "\r", ":", "::", "%",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let number = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % below
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let mut characters: Vec<char> = whole.chars().collect();
        for _ in 0..=random(4) {
            let at = random(characters.len());
            let end = (at + random(8)).min(characters.len());
            let piece: Vec<char> = pieces[random(pieces.len())].chars().collect();
            characters.splice(at..end, piece);
        }
        let text: String = characters.into_iter().collect();
        let Ok(mut file) = File::parse(&text) else {
            continue;
        };
        read += 1;
        let mut again = File::parse(&file.to_string())
            .unwrap_or_else(|error| panic!("{error}\n{text}\n{file}"));
        // Those lines are not written, ListenPort is.
        file.ignored.clear();
        again.ignored.clear();
        assert_eq!(again, file, "{text}");
    }
    assert!(read > 300, "only {read} were read");
}
