// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probes found, in words.

use super::children::{Found, Trouble};
use super::{Check, plain};
use netcon_kernel::probe::Thing;
use netcon_kernel::sys::kernel::release;

/// The kernel, its seccomp, and what it lets processes of one user do with each other.
pub(super) fn checks(found: &Found) -> Vec<Check> {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    let mut checks = vec![version(release())];
    checks.extend(notifications(found));
    checks.extend(reach(found, scope.as_deref().map(str::trim)));
    checks.extend(doors(found));
    checks.extend(network(found));
    checks
}

const NEWER: &str = "use Linux 5.14 or newer, built with CONFIG_SECCOMP_FILTER";

fn version(release: Option<(String, (u32, u32))>) -> Check {
    let check = |finding: &str| Check::ok("kernel", "kernel", finding);
    match release {
        None => check("its version cannot be read; what follows was tried"),
        Some((release, (major, minor))) => {
            let named = format!("Linux {release}");
            if (major, minor) < (5, 14) {
                check("").failure(format!("{named} is too old"), NEWER)
            } else {
                check(&named)
            }
        }
    }
}

fn notifications(found: &Found) -> Vec<Check> {
    let listener = Check::ok(
        "listener",
        "user notification",
        "trapped calls can be handed over",
    );
    let listener = match found.of(Thing::Listener) {
        Ok(()) => listener,
        Err(Trouble::Errno(libc::EBUSY)) => listener.failure(
            "this command already runs under another program's seccomp listener, and the kernel allows one",
            "run netcon outside of that sandbox, container or other network",
        ),
        Err(Trouble::Errno(libc::EINVAL | libc::ENOSYS)) => {
            listener.failure("the kernel has no seccomp user notification", NEWER)
        }
        Err(trouble) => listener.failure(
            format!("a filter with a listener is refused ({})", words(trouble)),
            "allow the system call seccomp in the profile of this container",
        ),
    };
    let receive = step(
        found,
        Thing::Receive,
        "receive",
        "RECV",
        "a trapped call arrives",
    );
    let answer = step(found, Thing::Answer, "answer", "SEND", "and is answered");
    let add_fd = step(
        found,
        Thing::AddFd,
        "add-fd",
        "ADDFD",
        "a descriptor is put into the program",
    );
    let killable = Check::ok(
        "wait-killable",
        "WAIT_KILLABLE",
        "signals do not break into calls in progress",
    );
    let killable = match found.of(Thing::WaitKillable) {
        Ok(()) => killable,
        Err(Trouble::Untried) => untried(killable),
        Err(trouble) => killable.warning(
            format!("the kernel does not know it ({}): a call that a signal interrupts may happen twice", words(trouble)),
            "use Linux 5.19 or newer",
        ),
    };
    let wake = Check::ok(
        "sync-wake-up",
        "SYNC_WAKE_UP",
        "a trapped call may be answered on its own processor",
    );
    let wake = match found.of(Thing::SyncWakeUp) {
        Ok(()) => wake,
        Err(Trouble::Untried) => untried(wake),
        Err(trouble) => wake.warning(
            format!(
                "the kernel does not know it ({}): trapped calls take longer",
                words(trouble)
            ),
            "use Linux 6.6 or newer",
        ),
    };
    let nested = Check::ok(
        "one-listener",
        "nested listener",
        "refused, as it should be: programs that want one of their own get EBUSY",
    );
    let nested = match found.of(Thing::OneListener) {
        Ok(()) => nested,
        Err(Trouble::Untried) => untried(nested),
        Err(trouble) => nested.warning(
            format!(
                "a second one is not refused with EBUSY ({})",
                words(trouble)
            ),
            "report this: such a kernel is not known",
        ),
    };
    vec![listener, receive, answer, add_fd, killable, wake, nested]
}

/// Something about notifications without which nothing works.
fn step(found: &Found, thing: Thing, id: &'static str, title: &'static str, well: &str) -> Check {
    let check = Check::ok(id, title, well);
    match found.of(thing) {
        Ok(()) => check,
        Err(Trouble::Untried) => untried(check),
        Err(trouble) => check.failure(
            format!("it does not work ({})", words(trouble)),
            "allow ioctl on seccomp listeners in the profile of this container, or use Linux 5.14 or newer",
        ),
    }
}

fn untried(check: Check) -> Check {
    check.failure(
        "not tried: what comes before it failed",
        "repair that first",
    )
}

fn reach(found: &Found, scope: Option<&str>) -> Vec<Check> {
    let remedy = match scope {
        Some("0") | None => {
            "allow process_vm_readv and pidfd_getfd in the profile of this container (SYS_PTRACE)"
        }
        Some(_) => "sysctl kernel.yama.ptrace_scope=0, or give the container SYS_PTRACE",
    };
    let needed = |thing, id, title, well: &str, ill: &str| {
        let check = Check::ok(id, title, well);
        match found.of(thing) {
            Ok(()) => check,
            Err(trouble) => check.failure(format!("{ill} ({})", words(trouble)), remedy),
        }
    };
    let memory = needed(
        Thing::ReadMemory,
        "memory",
        "program memory",
        "the memory of this user's programs can be read",
        "process_vm_readv on another program of this user is refused",
    );
    let descriptor = needed(
        Thing::TakeDescriptor,
        "descriptors",
        "program sockets",
        "sockets of this user's programs can be reached",
        "pidfd_getfd on another program of this user is refused",
    );
    let check = Check::ok("proc-memory", "/proc/PID/mem", "can be read");
    let proc = match found.of(Thing::ProcMemory) {
        Ok(()) => check,
        Err(trouble) => check.warning(format!("cannot be read ({})", words(trouble)), remedy),
    };
    let check = |finding: &str| Check::ok("yama", "Yama", finding);
    let reachable = found.of(Thing::TakeDescriptor).is_ok();
    let yama = match scope {
        None => check("not in this kernel"),
        Some("0") => check("ptrace_scope is 0: programs of one user may look at each other"),
        Some(scope) if reachable => check(&format!(
            "ptrace_scope is {scope}, and this user may look at programs nevertheless"
        )),
        Some(scope) => check("").failure(
            format!("ptrace_scope is {scope}: the supervisor may not look at programs"),
            remedy,
        ),
    };
    vec![memory, descriptor, proc, yama]
}

/// Roads into the kernel that the filter has to close, whether or not they are there.
fn doors(found: &Found) -> Vec<Check> {
    let door = |thing, id, title| {
        let finding = match found.of(thing) {
            Ok(()) => "the kernel has it; closed for programs on a network".to_owned(),
            Err(Trouble::Errno(libc::ENOSYS) | Trouble::Signal(_)) => {
                "the kernel does not have it".to_owned()
            }
            Err(trouble) => format!("refused here ({})", words(trouble)),
        };
        Check::ok(id, title, finding)
    };
    vec![
        door(Thing::IoUring, "io-uring", "io_uring"),
        door(Thing::X32, "x32", "x32 calls"),
        door(Thing::I386, "i386", "i386 calls"),
    ]
}

fn network(found: &Found) -> Vec<Check> {
    let offload = |thing, id, title, well: &str| {
        let check = Check::ok(id, title, well);
        match found.of(thing) {
            Ok(()) => check,
            Err(trouble) => check.warning(
                format!("refused ({}): the overlay needs a call for each packet", words(trouble)),
                "allow setsockopt for UDP, or use a kernel that has it; it works without, more slowly",
            ),
        }
    };
    let segment = offload(
        Thing::UdpSegment,
        "udp-gso",
        "UDP GSO",
        "many packets leave in one call",
    );
    let gro = offload(
        Thing::UdpGro,
        "udp-gro",
        "UDP GRO",
        "many packets arrive in one call",
    );
    let ping = Check::ok("ping", "host's ping", "works without root");
    let ping = match found.of(Thing::Ping) {
        Ok(()) => ping,
        Err(_refused) => Check {
            finding: "not without root outside of networks (net.ipv4.ping_group_range); inside it does not matter".to_owned(),
            ..ping
        },
    };
    let namespace = Check::ok(
        "user-namespace",
        "user namespaces",
        "allowed: sandboxes such as bubblewrap work inside",
    );
    let namespace = match found.of(Thing::UserNamespace) {
        Ok(()) => namespace,
        Err(trouble) => Check {
            finding: format!(
                "not allowed ({}): netcon does not need them, programs with a sandbox of their own may",
                words(trouble)
            ),
            ..namespace
        },
    };
    vec![segment, gro, ping, namespace]
}

/// Trouble as the kernel has it.
fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Errno(errno) => plain(&std::io::Error::from_raw_os_error(errno)),
        Trouble::Signal(libc::SIGSYS) => "the process was ended for trying".to_owned(),
        Trouble::Signal(signal) => format!("ended by signal {signal}"),
        Trouble::Untried => "it could not be tried".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn all_well() -> Found {
        Found::from(
            <[_; 17]>::try_from(Thing::ALL)
                .unwrap()
                .map(|thing| (thing, Ok(()))),
        )
    }

    #[test]
    fn all_is_well() {
        let found = all_well();
        let checks = [
            notifications(&found),
            reach(&found, None),
            doors(&found),
            network(&found),
        ]
        .concat();
        assert!(
            checks
                .iter()
                .all(|check| check.level == Level::Ok && check.remedy.is_none()),
            "{checks:?}"
        );
        let mut ids: Vec<_> = checks.iter().map(|check| check.id).collect();
        ids.dedup();
        // One for each thing, and Yama.
        assert_eq!(ids.len(), Thing::ALL.len() + 1, "{ids:?}");
    }

    #[test]
    fn old_kernels() {
        let of = |text: &str, numbers| version(Some((text.to_owned(), numbers))).level;
        assert_eq!(of("5.10.0", (5, 10)), Level::Failure);
        assert_eq!(of("5.14.0", (5, 14)), Level::Ok);
        assert_eq!(version(None).level, Level::Ok);
        let found = Found::from([
            (Thing::Listener, Ok(())),
            (Thing::WaitKillable, Err(Trouble::Errno(libc::EINVAL))),
            (Thing::SyncWakeUp, Err(Trouble::Errno(libc::EINVAL))),
        ]);
        let checks = notifications(&found);
        assert!(checks[4].remedy.as_deref().unwrap().contains("5.19"));
        assert!(checks[5].remedy.as_deref().unwrap().contains("6.6"));
        assert_eq!(
            (checks[4].level, checks[5].level),
            (Level::Warning, Level::Warning)
        );
    }

    #[test]
    fn yama_is_named_where_it_is_the_reason() {
        let refused = Err(Trouble::Errno(libc::EPERM));
        let found = Found::from([
            (Thing::ReadMemory, refused),
            (Thing::TakeDescriptor, refused),
            (Thing::ProcMemory, refused),
        ]);
        for check in reach(&found, Some("1")) {
            assert!(check.level >= Level::Warning, "{check:?}");
            assert!(check.remedy.unwrap().contains("ptrace_scope=0"));
        }
        let container = reach(&found, None);
        assert!(
            container[0]
                .remedy
                .as_deref()
                .unwrap()
                .contains("SYS_PTRACE")
        );
        assert_eq!(container[3].level, Level::Ok);
        // As root, or with the capability, the scope does not matter.
        assert_eq!(reach(&all_well(), Some("1"))[3].level, Level::Ok);
    }
}
