//! What mariadbd may do: it runs its tenant's SQL, and a tenant with CREATE USER can become root of it. So it owns itself and
//! nothing else.
//!
//! In: the command that will run it, whose it is and where its files are. Out: the same command, which gives up between fork
//! and exec: the OS user (one per project, where the agent is root), the network (a namespace of its own where the agent may
//! make one, and no sockets but unix ones in any case), other processes (it can start none, look into none), files but its
//! own (Landlock, where the kernel has it; the OS user's rights besides), privileges for good, memory beyond its size.
//! What holds against what, and what does not, is in docs/security.md.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use control_api::spec::Spec;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
    path_beneath_rules,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use rustix::thread::{
    Gid, Uid, UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use tokio::process::Command;

use crate::error::Error;

/// Memory of one CU.
pub(crate) const CU_BYTES: f64 = 4.0 * 1024.0 * 1024.0 * 1024.0;
/// Over what the size gives: what any server has before it holds a row, and the stacks of its threads, which count whole.
const MEMORY_BASE_BYTES: u64 = 768 << 20;
/// And for each connection: an implicit temporary table, or an open cursor, sets so much aside and touches a few KiB of it. What
/// is bounded is what is set aside; docs/decisions/2026-11-25-memory.md.
const MEMORY_PER_CONNECTION_BYTES: u64 = 2 << 20;
/// Threads besides one for each connection: InnoDB's, purge, timers, events.
const THREADS_BESIDES: u64 = 512;

/// Where any program finds itself, its libraries, zones and the machine's description.
const READ: [&str; 8] = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/sys", "/proc"];
/// Devices that hold nothing.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// What a server has for itself.
pub(crate) struct Own<'a> {
    /// Directories in which it may do anything.
    pub(crate) dirs: &'a [&'a Path],
    /// Files that it may write.
    pub(crate) files: &'a [&'a Path],
    /// The program itself, wherever it was installed.
    pub(crate) program: &'a Path,
    /// At most so many clients.
    pub(crate) connections: u64,
}

/// See the head of this file. An error means that the command must not be run.
pub(crate) fn confine(command: &mut Command, spec: &Spec, own: &Own<'_>) -> Result<(), Error> {
    let filters = filters().map_err(cannot("filter system calls"))?;
    let mut ruleset = Some(ruleset(own).map_err(cannot("restrict files"))?);
    let user = spec
        .uid
        .map(|uid| (Uid::from_raw(uid), Gid::from_raw(spec.gid.unwrap_or(uid))));
    let limits = limits(spec, own);
    let agent = rustix::process::getpid();
    let give_up = move || give_up(agent, user, &limits, ruleset.take(), &filters);
    #[allow(unsafe_code, reason = "the only way to do something between fork and exec")]
    // SAFETY: only system calls are made in there, with what was prepared here: nothing is allocated, no lock is taken.
    unsafe {
        command.pre_exec(give_up);
    }
    Ok(())
}

/// Between fork and exec. The order matters: each step needs what a later one gives up.
fn give_up(
    agent: Pid,
    user: Option<(Uid, Gid)>,
    limits: &[(Resource, u64)],
    ruleset: Option<RulesetCreated>,
    filters: &Filters,
) -> io::Result<()> {
    #[allow(unsafe_code, reason = "unshare is unsafe only for tables of descriptors")]
    // SAFETY: UnshareFlags::FILES is not among them.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWIPC) };
    // Who may not (no root, or a container without the capability) has the filter.
    if let Err(error) = unshared
        && error != rustix::io::Errno::PERM
    {
        return Err(error.into());
    }
    for (resource, most) in limits {
        let limit = Rlimit {
            current: Some(*most),
            maximum: Some(*most),
        };
        setrlimit(*resource, limit)?;
    }
    if let Some((uid, gid)) = user {
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    // Forgotten at a change of user, so after it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(agent) {
        return Err(rustix::io::Errno::CANCELED.into());
    }
    set_no_new_privs(true)?;
    if let Some(ruleset) = ruleset {
        ruleset.restrict_self().map_err(|_| rustix::io::Errno::PERM)?;
    }
    for filter in filters {
        seccompiler::apply_filter(filter).map_err(|_| rustix::io::Errno::PERM)?;
    }
    Ok(())
}

fn limits(spec: &Spec, own: &Own<'_>) -> Vec<(Resource, u64)> {
    let memory = (spec.size_cu * CU_BYTES) as u64 + MEMORY_BASE_BYTES + own.connections * MEMORY_PER_CONNECTION_BYTES;
    // No core: what it holds in memory goes when it dies.
    let mut limits = vec![(Resource::Core, 0), (Resource::Data, memory)];
    if spec.uid.is_some() {
        // Counted by user: where it is shared, this would be everybody's limit.
        limits.push((Resource::Nproc, own.connections + THREADS_BESIDES));
    }
    limits
}

/// Files by where they are. What this kernel does not know is left out, all of it where it knows nothing.
fn ruleset(own: &Own<'_>) -> Result<RulesetCreated, landlock::RulesetError> {
    let abi = ABI::V6;
    // It finds libraries beside it: /opt/mariadb/sbin/mariadbd, /opt/mariadb/lib.
    let installed = own.program.ancestors().nth(2).filter(|dir| dir.parent().is_some());
    let read = READ.iter().map(Path::new).chain(installed).chain([own.program]);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rules(path_beneath_rules(
            own.files,
            AccessFs::from_file(abi) & !AccessFs::Execute,
        ))?
        .add_rules(path_beneath_rules(
            own.dirs,
            AccessFs::from_all(abi) & !AccessFs::Execute,
        ))
}

/// The calls that a database has no use for: to start processes or look into them, to change what it sees, and those that
/// have opened doors to the kernel before. All others pass.
const REFUSED: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // It is called, and calls nobody: who may connect reaches every unix socket that its file's mode opens, and Landlock knows none.
    libc::SYS_connect,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    // What is asked through it passes no filter, sockets among it.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// On x86-64 each call has a second number, of the ABI with short pointers, where the kernel was built with it: to a filter a
/// different call of the same architecture.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;
/// Those that have numbers of their own there: ptrace, kexec_load, process_vm_readv, process_vm_writev.
#[cfg(target_arch = "x86_64")]
const X32_REFUSED: [libc::c_long; 4] = [521, 528, 539, 540];

#[cfg(target_arch = "x86_64")]
fn x32(rules: &BTreeMap<i64, Vec<SeccompRule>>) -> Vec<(i64, Vec<SeccompRule>)> {
    rules.iter().map(|(call, rule)| (call | X32, rule.clone())).collect()
}

/// All are installed. What one of them refuses is refused.
type Filters = [BpfProgram; 2];

fn filters() -> Result<Filters, BackendError> {
    type Rules = BTreeMap<i64, Vec<SeccompRule>>;
    let only_if = |argument, operator, value| -> Result<Vec<SeccompRule>, BackendError> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let unix = u64::from(libc::AF_UNIX.cast_unsigned());
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let mut refused: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let mut rules = only_if(0, SeccompCmpOp::Ne, unix)?;
        // Those that send without a connection. The kind is in the low bits, flags above it.
        for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            rules.extend(only_if(
                1,
                SeccompCmpOp::MaskedEq(0xf),
                u64::from(kind.cast_unsigned()),
            )?);
        }
        refused.insert(call, rules);
    }
    refused.insert(libc::SYS_clone, only_if(0, SeccompCmpOp::MaskedEq(thread), 0)?);
    // Its flags are in memory, where no filter looks. The C library makes threads by the older call where this one is absent.
    let mut absent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    #[cfg(target_arch = "x86_64")]
    {
        absent.extend(x32(&absent));
        refused.extend(x32(&refused));
        refused.extend(X32_REFUSED.map(|call| (call | X32, Vec::new())));
    }
    let with = |rules, errno: i32| -> Result<BpfProgram, BackendError> {
        let arch = std::env::consts::ARCH.try_into()?;
        let answer = SeccompAction::Errno(errno.cast_unsigned());
        SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?.try_into()
    };
    Ok([with(refused, libc::EPERM)?, with(absent, libc::ENOSYS)?])
}

fn cannot<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::System {
        what: "cannot confine the server:",
        path: PathBuf::from(what),
        source: io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use tokio::net::TcpListener;

    use super::*;

    /// What a hostile process would try, each with a word that it says where it succeeded. Starting another process comes last:
    /// where that is refused, the shell ends.
    async fn attack(confined: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (own, others) = (dir.path().join("own"), dir.path().join("others"));
        for dir in [&own, &others] {
            std::fs::create_dir(dir).unwrap();
            std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::write(others.join("open"), "readable by all\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let script = format!(
            "exec 2>/dev/null\n\
             echo x > {own}/x && echo writes its own\n\
             read line < {others}/open && echo reads what is not its own\n\
             echo x > {others}/x && echo writes what is not its own\n\
             {{ true 3<>/dev/tcp/127.0.0.1/{port}; }} && echo reaches the network\n\
             /bin/true && echo starts a process\n",
            own = own.display(),
            others = others.display(),
            port = listener.local_addr().unwrap().port(),
        );
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &script]).kill_on_drop(true);
        if confined {
            let mut spec = crate::options::tests::spec();
            if !rustix::process::geteuid().is_root() {
                spec.uid = None;
            }
            let own = Own {
                dirs: &[&own],
                files: &[],
                program: Path::new("/bin/bash"),
                connections: 8,
            };
            confine(&mut command, &spec, &own).unwrap();
        }
        let Output { stdout, .. } = command.output().await.unwrap();
        String::from_utf8(stdout).unwrap()
    }

    /// What a confined perl prints.
    async fn confined_perl(script: &str, dir: &Path) -> String {
        let mut command = Command::new("/usr/bin/perl");
        command.args(["-e", script]);
        let mut spec = crate::options::tests::spec();
        if !rustix::process::geteuid().is_root() {
            spec.uid = None;
        }
        let own = Own {
            dirs: &[dir],
            files: &[],
            program: Path::new("/usr/bin/perl"),
            connections: 8,
        };
        confine(&mut command, &spec, &own).unwrap();
        let said = command.output().await.unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    }

    /// The error number of a socket asked for by its second number: EPERM of the filter, or ENOSYS of a kernel without that ABI.
    #[cfg(target_arch = "x86_64")]
    #[tokio::test]
    async fn the_second_number_of_a_call_is_no_way_around_the_filter() {
        let dir = tempfile::tempdir().unwrap();
        let said = confined_perl("syscall(0x40000000 | 41, 2, 1, 0); print $! + 0", dir.path());
        assert_eq!(said.await, libc::EPERM.to_string());
    }

    #[tokio::test]
    async fn a_socket_is_for_those_who_call_not_to_call_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let (open, own) = (dir.path().join("open"), dir.path().join("own"));
        let _listener = std::os::unix::net::UnixListener::bind(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let script = format!(
            "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die $!; \
             print connect($s, pack_sockaddr_un('{open}')) ? 'connected' : $! + 0, ' '; \
             print socket(my $d, AF_UNIX, SOCK_DGRAM, 0) ? 'sends' : $! + 0, ' '; \
             socket(my $l, AF_UNIX, SOCK_STREAM, 0) or die $!; bind($l, pack_sockaddr_un('{own}')) or die $!; \
             print listen($l, 1) ? 'listens' : $! + 0",
            open = open.display(),
            own = own.display(),
        );
        let (refused, said) = (libc::EPERM, confined_perl(&script, dir.path()).await);
        assert_eq!(said, format!("{refused} {refused} listens"));
    }

    #[tokio::test]
    async fn a_confined_process_has_its_own_files_and_nothing_else() {
        assert_eq!(attack(true).await, "writes its own\n");
        let free = attack(false).await;
        assert_eq!(
            free.lines().count(),
            5,
            "the attacks are such that they would succeed: {free}"
        );
    }
}
