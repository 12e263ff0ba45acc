// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table against libc's numbers and against what it promises.

use super::*;

#[test]
fn numbers_are_unique_and_in_range() {
    for rows in [NATIVE, FOREIGN] {
        for (index, row) in rows.iter().enumerate() {
            assert!(row.number < 1024, "{}", row.name);
            assert!(
                rows.iter()
                    .skip(index + 1)
                    .all(|other| other.number != row.number),
                "{}",
                row.name
            );
            assert!(!row.why.is_empty());
        }
    }
}

#[test]
fn native_numbers_are_those_of_libc() {
    let known = [
        ("socket", libc::SYS_socket),
        ("socketpair", libc::SYS_socketpair),
        ("connect", libc::SYS_connect),
        ("bind", libc::SYS_bind),
        ("listen", libc::SYS_listen),
        ("accept", libc::SYS_accept),
        ("accept4", libc::SYS_accept4),
        ("getsockname", libc::SYS_getsockname),
        ("getpeername", libc::SYS_getpeername),
        ("shutdown", libc::SYS_shutdown),
        ("getsockopt", libc::SYS_getsockopt),
        ("setsockopt", libc::SYS_setsockopt),
        ("sendto", libc::SYS_sendto),
        ("recvfrom", libc::SYS_recvfrom),
        ("sendmsg", libc::SYS_sendmsg),
        ("sendmmsg", libc::SYS_sendmmsg),
        ("recvmsg", libc::SYS_recvmsg),
        ("recvmmsg", libc::SYS_recvmmsg),
        ("ioctl", libc::SYS_ioctl),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("prctl", libc::SYS_prctl),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_enter", libc::SYS_io_uring_enter),
        ("io_uring_register", libc::SYS_io_uring_register),
    ];
    assert_eq!(known.len(), NATIVE.len());
    for row in NATIVE {
        assert!(
            known.contains(&(row.name, i64::from(row.number))),
            "{}",
            row.name
        );
    }
}

#[test]
fn every_trap_row_is_found_by_its_number() {
    for row in NATIVE {
        let found = i32::try_from(row.number)
            .ok()
            .and_then(Trapped::from_number);
        match row.rule {
            Rule::Trap(trapped, _) => assert_eq!(found, Some(trapped)),
            Rule::Refuse { .. } => assert_eq!(found, None),
        }
    }
    assert_eq!(Trapped::from_number(-1), None);
    assert_eq!(Trapped::from_number(0), None);
}

#[test]
fn nothing_of_the_foreign_abi_reaches_the_supervisor() {
    assert!(
        FOREIGN
            .iter()
            .all(|row| matches!(row.rule, Rule::Refuse { .. }))
    );
}

#[test]
fn every_socket_call_of_i386_is_refused() {
    let io_uring = 425..=427;
    let socket_to_shutdown = 359..=373;
    let others = [
        102, /* socketcall */
        337, /* recvmmsg */
        345, /* sendmmsg */
        417, /* recvmmsg_time64 */
        438,
    ];
    for number in socket_to_shutdown.chain(io_uring).chain(others) {
        assert_eq!(
            decide_foreign(number, &[0; 6]),
            Decision::Errno(ENOSYS),
            "{number}"
        );
    }
    assert_eq!(
        decide_foreign(54, &[3, 0x8912, 0, 0, 0, 0]),
        Decision::Errno(ENOSYS)
    );
    assert_eq!(decide_foreign(172, &[4, 0, 0, 0, 0, 0]), Decision::Errno(0));
}

#[test]
fn families() {
    let decide = |number, family| decide(number, &[family, 1, 0, 0, 0, 0]);
    for number in [41, 53] {
        assert_eq!(decide(number, 1), Decision::Allow);
        assert_eq!(decide(number, 2), Decision::Notify);
        assert_eq!(decide(number, 10), Decision::Notify);
        assert_eq!(decide(number, 16), Decision::Notify);
        for other in [0, 3, 9, 11, 15, 17, 38, 40, 0xffff_ffff] {
            assert_eq!(
                decide(number, other),
                Decision::Errno(EAFNOSUPPORT),
                "{other}"
            );
        }
        assert_eq!(decide(number, 0x1_0000_0002), Decision::Notify);
    }
}

#[test]
fn conditions() {
    assert_eq!(decide(54, &[3, 1, 20, 0, 0, 0]), Decision::Allow);
    assert_eq!(decide(54, &[3, 1, 67, 0, 0, 0]), Decision::Allow);
    assert_eq!(decide(54, &[3, 6, 20, 0, 0, 0]), Decision::Notify);
    assert_eq!(decide(54, &[3, 1, 22, 0, 0, 0]), Decision::Notify);
    assert_eq!(decide(44, &[3, 0, 0, 0x4000, 0, 0]), Decision::Allow);
    assert_eq!(decide(44, &[3, 0, 0, 0, 1 << 32, 0]), Decision::Notify);
    assert_eq!(decide(45, &[3, 0, 0, 0x2, 0, 9]), Decision::Allow);
    assert_eq!(decide(45, &[3, 0, 0, 0x20, 0, 0]), Decision::Notify);
    assert_eq!(decide(16, &[3, 0x8912, 0, 0, 0, 0]), Decision::Notify);
    assert_eq!(
        decide(16, &[3, 0x1_0000_8912, 0, 0, 0, 0]),
        Decision::Notify
    );
    assert_eq!(decide(16, &[3, 0x890a, 0, 0, 0, 0]), Decision::Allow);
    assert_eq!(decide(16, &[3, 0x5411, 0, 0, 0, 0]), Decision::Notify);
    assert_eq!(decide(157, &[4, 0, 0, 0, 0, 0]), Decision::Errno(0));
    assert_eq!(decide(157, &[4, 1, 0, 0, 0, 0]), Decision::Allow);
    assert_eq!(decide(425, &[0; 6]), Decision::Errno(ENOSYS));
    assert_eq!(decide(0x4000_0000, &[0; 6]), Decision::Errno(ENOSYS));
    assert_eq!(decide(u32::MAX, &[0; 6]), Decision::Allow);
    assert_eq!(
        decide_foreign(102, &[1, 0, 0, 0, 0, 0]),
        Decision::Errno(ENOSYS)
    );
    assert_eq!(decide_foreign(4, &[0; 6]), Decision::Allow);
}
