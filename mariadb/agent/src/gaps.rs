//! What [`crate::confine`] cannot do here: it leaves out what the kernel or the user that runs it does not allow, and whoever
//! starts Selkie should hear of that before tenants come.

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

/// What counts of this machine and this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    /// Projects get OS users of their own.
    is_root: bool,
    /// The kernel can keep a process to its files.
    restricts_files: bool,
    /// And from others' signals.
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
            restricts_files: ruleset().handle_access(AccessFs::from_all(ABI::V1)).is_ok(),
            restricts_signals: ruleset().scope(Scope::AbstractUnixSocket | Scope::Signal).is_ok(),
            filters_calls: status.lines().any(|line| line.starts_with("Seccomp:")),
        }
    }
}

/// What is missing, what that leaves open, and what would mend it.
pub(crate) fn gaps(here: &Here) -> Option<String> {
    let Here {
        is_root,
        restricts_files,
        restricts_signals,
        filters_calls,
    } = *here;
    let mut gaps = Vec::new();
    if !is_root {
        let open = match (restricts_files, restricts_signals) {
            (false, _) => ", so they can get at each other's files and signals, and Selkie's own",
            (true, false) => ", so they can get at each other's signals, and Selkie's own",
            (true, true) => ", and seccomp and Landlock alone keep them apart",
        };
        gaps.push(format!(
            "all run as one OS user{open} (as root each project has a user)"
        ));
    }
    if !restricts_files && is_root {
        gaps.push("this kernel has no Landlock, so they can read what every user may read".into());
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
        restricts_files: true,
        restricts_signals: true,
        filters_calls: true,
    };

    #[test]
    fn where_nothing_is_missing_nothing_is_said() {
        assert_eq!(gaps(&ALL), None);
        // Signals are kept off by the OS users.
        let older = Here {
            restricts_signals: false,
            ..ALL
        };
        assert_eq!(gaps(&older), None);
    }

    #[test]
    fn each_gap_is_named_with_what_it_leaves_open() {
        let user = Here { is_root: false, ..ALL };
        let says = |here: Here, parts: &[&str]| {
            let said = gaps(&here).unwrap_or_default();
            for part in parts {
                assert!(said.contains(part), "{part:?} not in {said:?} for {here:?}");
            }
            assert_eq!(said.lines().count(), 1, "{said:?}");
            said
        };
        let said = says(user, &["one OS user", "seccomp and Landlock alone"]);
        assert!(!said.contains("signals") && !said.contains("files"), "{said}");
        let without_scopes = Here {
            restricts_signals: false,
            ..user
        };
        says(without_scopes, &["each other's signals, and Selkie's own"]);
        let without_landlock = Here {
            restricts_files: false,
            restricts_signals: false,
            ..user
        };
        says(without_landlock, &["each other's files and signals, and Selkie's own"]);
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
}
