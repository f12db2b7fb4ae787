//! Keeps the process's memory, in which secrets are for a while, out of files and other processes: no core dumps, and no
//! other process of the same user may trace it or read its memory.

use std::io;

/// Forbids core dumps and, where the system knows of it, looking into the process. Each part is tried; what fails is
/// answered, with what it was, and is no reason not to start.
pub fn harden() -> Vec<(&'static str, io::Error)> {
    let mut failed = Vec::new();
    if let Err(error) = forbid_core_dumps() {
        failed.push(("core dumps cannot be forbidden", error));
    }
    if let Err(error) = forbid_looking_in() {
        failed.push(("other processes cannot be kept from looking in", error));
    }
    failed
}

#[cfg(unix)]
fn forbid_core_dumps() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

#[cfg(not(unix))]
fn forbid_core_dumps() -> io::Result<()> {
    Ok(())
}

/// A limit of 0 does not stop a core that the kernel pipes to a program; this does, and it forbids tracing as well.
#[cfg(target_os = "linux")]
fn forbid_looking_in() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(not(target_os = "linux"))]
fn forbid_looking_in() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_and_is_not_looked_into() {
        assert!(harden().is_empty());
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().expect("readable"), DumpableBehavior::NotDumpable);
    }
}
