//! What [`crate::confine`] cannot do here: it leaves out what the kernel or the user that runs it does not allow, and whoever
//! starts Selkie should hear of that before tenants come.

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

/// The number of CAP_SYS_ADMIN, which making namespaces needs.
const CAP_SYS_ADMIN: u32 = 21;

/// What counts of this machine and this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    /// Projects get OS users of their own.
    is_root: bool,
    /// Servers get a network of their own.
    makes_namespaces: bool,
    /// The kernel can keep a process to its files.
    restricts_files: bool,
    /// And from others' signals and abstract sockets.
    restricts_signals: bool,
    /// Without it no server starts.
    filters_calls: bool,
}

impl Here {
    pub(crate) fn look() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The kernel takes all of it or refuses.
        let ruleset = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        Self {
            is_root: rustix::process::geteuid().is_root(),
            makes_namespaces: has_capability(&status, CAP_SYS_ADMIN),
            restricts_files: ruleset().handle_access(AccessFs::from_all(ABI::V1)).is_ok(),
            restricts_signals: ruleset().scope(Scope::AbstractUnixSocket | Scope::Signal).is_ok(),
            filters_calls: status.lines().any(|line| line.starts_with("Seccomp:")),
        }
    }
}

fn has_capability(status: &str, number: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.is_some_and(|mask| mask & (1 << number) != 0)
}

/// What is missing, what that leaves open, and what would mend it.
pub(crate) fn gaps(here: &Here) -> Option<String> {
    let Here {
        is_root,
        makes_namespaces,
        restricts_files,
        restricts_signals,
        filters_calls,
    } = *here;
    let mut gaps = Vec::new();
    if !is_root {
        let besides = match (restricts_files, restricts_signals) {
            (false, _) => ", files, signals",
            (true, false) => ", signals",
            (true, true) => "",
        };
        gaps.push(format!(
            "all run as one OS user, so they can get at each other's sockets{besides} and Selkie's own (as root each project has a user)"
        ));
    }
    if !restricts_files && is_root {
        gaps.push("this kernel has no Landlock, so they can read what every user may read".into());
    }
    if !makes_namespaces && !restricts_signals {
        gaps.push(
            "without CAP_SYS_ADMIN and a kernel that restricts them, they reach this machine's abstract sockets".into(),
        );
    }
    if !filters_calls {
        gaps.push("this kernel has no seccomp, so none of them will start".into());
    }
    (!gaps.is_empty()).then(|| format!("databases are not kept apart as they could be: {}", gaps.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Here = Here {
        is_root: true,
        makes_namespaces: true,
        restricts_files: true,
        restricts_signals: true,
        filters_calls: true,
    };

    #[test]
    fn where_nothing_is_missing_nothing_is_said() {
        assert_eq!(gaps(&ALL), None);
        // As in a container: the kernel keeps sockets apart all the same.
        let contained = Here {
            makes_namespaces: false,
            ..ALL
        };
        assert_eq!(gaps(&contained), None);
        // Signals are kept off by the OS users, abstract sockets by the namespace.
        let older = Here {
            restricts_signals: false,
            ..ALL
        };
        assert_eq!(gaps(&older), None);
    }

    #[test]
    fn each_gap_is_named_with_what_it_leaves_open() {
        let user = Here {
            is_root: false,
            makes_namespaces: false,
            ..ALL
        };
        let says = |here: Here, parts: &[&str]| {
            let said = gaps(&here).unwrap_or_default();
            for part in parts {
                assert!(said.contains(part), "{part:?} not in {said:?} for {here:?}");
            }
            assert_eq!(said.lines().count(), 1, "{said:?}");
            said
        };
        let said = says(user, &["one OS user", "each other's sockets and Selkie's own"]);
        assert!(!said.contains("signals") && !said.contains("files"), "{said}");
        let without_scopes = Here {
            restricts_signals: false,
            ..user
        };
        says(without_scopes, &["sockets, signals and", "abstract sockets"]);
        let without_landlock = Here {
            restricts_files: false,
            restricts_signals: false,
            ..user
        };
        says(without_landlock, &["sockets, files, signals and", "abstract sockets"]);
        says(
            Here {
                restricts_files: false,
                restricts_signals: false,
                ..ALL
            },
            &["no Landlock", "what every user may read"],
        );
        says(
            Here {
                filters_calls: false,
                ..ALL
            },
            &["no seccomp", "none of them will start"],
        );
    }

    #[test]
    fn a_capability_is_read_from_the_mask_of_those_in_effect() {
        let status = |effective: &str| {
            format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n")
        };
        assert!(has_capability(&status("000001ffffffffff"), CAP_SYS_ADMIN));
        assert!(has_capability(&status("0000000000200000"), CAP_SYS_ADMIN));
        assert!(!has_capability(&status("00000000a80425fb"), CAP_SYS_ADMIN));
        assert!(!has_capability("", CAP_SYS_ADMIN));
    }
}
