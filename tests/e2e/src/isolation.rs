//! A tenant who has become root of its own server, and any process of its OS user, gets at nothing of anybody else. Tests run
//! as root, as projects have OS users of their own only then.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::client::run;
use harness::{Project, Selkie};

/// A project that is awake and has a secret in it.
struct Tenant<'a> {
    project: Project<'a>,
    pid: u32,
    uid: u32,
}

impl<'a> Tenant<'a> {
    async fn of(selkie: &'a Selkie, name: &str) -> Self {
        let project = selkie.project(name).await;
        let mut conn = project.endpoint.connect().await;
        run(&mut conn, "CREATE TABLE secret (a TEXT)").await;
        run(&mut conn, "INSERT INTO secret VALUES ('a secret of this project')").await;
        let data = format!(
            "--datadir={}",
            selkie
                .data_dir()
                .join("projects")
                .join(&project.id)
                .join("data")
                .display()
        );
        let named = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|argument| argument == data.as_bytes())
        };
        let pid = selkie.servers().into_iter().find(named).expect("its server runs");
        let uid = std::fs::metadata(format!("/proc/{pid}")).expect("its process").uid();
        assert_ne!(uid, 0, "tests run as root, so that projects have OS users");
        Self { project, pid, uid }
    }

    fn dir(&self, selkie: &Selkie) -> PathBuf {
        selkie.data_dir().join("projects").join(&self.project.id)
    }

    fn socket(&self, selkie: &Selkie) -> PathBuf {
        selkie.data_dir().join("run").join(&self.project.id).join("m.sock")
    }

    /// As root of its server, which the operating system's root is over the socket.
    fn sql(&self, selkie: &Selkie, sql: &str) -> Output {
        Command::new("mariadb")
            .args(["--no-defaults", "-N", "-B", "-u", "root", "-S"])
            .arg(self.socket(selkie))
            .args(["-e", sql])
            .output()
            .expect("the mariadb client")
    }

    /// A process of its OS user, with nothing of what confines its server.
    fn process(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([
                &format!("--reuid={}", self.uid),
                &format!("--regid={}", self.uid),
                "--clear-groups",
                program,
            ])
            .current_dir("/");
        command
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(dir)
        .expect("a directory")
        .filter_map(|entry| Some(entry.ok()?.path()))
    {
        if path.is_dir() && !path.is_symlink() {
            below(&path, found);
        }
        found.push(path);
    }
}

#[tokio::test]
async fn root_of_its_server_reads_and_writes_no_files_but_its_own() {
    let selkie = Selkie::shared().await;
    // Announced before they come: other tests look at the same logs meanwhile.
    selkie.logs.allow("selkie-isolation-");
    selkie.logs.allow("innodb_tmpdir");
    selkie.logs.allow("Operating system error number 13");
    selkie
        .logs
        .allow("The error means mariadbd does not have the access rights");
    selkie.logs.allow("Could not use");
    let (tenant, other) = (Tenant::of(selkie, "files").await, Tenant::of(selkie, "victim").await);
    let rights = said(&tenant.sql(selkie, "SHOW GRANTS"));
    assert!(
        rights.contains("ALL PRIVILEGES ON *.*"),
        "the attacker owns its server: {rights}"
    );
    // Readable by everybody, so that only what confines the server is in the way.
    let shared = selkie.dir().join("readable-by-all");
    std::fs::write(&shared, "x").expect("a file");
    let theirs = [
        other.dir(selkie).join("data/app/secret.ibd"),
        other.dir(selkie).join("spec.json"),
        selkie.data_dir().join("control/control.sqlite"),
        selkie.data_dir().join("up.json"),
        selkie.data_dir().join("demo.cnf"),
        selkie.data_dir().join("logs/selkie.log"),
        shared,
    ];
    for file in &theirs {
        assert!(file.exists(), "{}", file.display());
        let read = said(&tenant.sql(selkie, &format!("SELECT LOAD_FILE('{}') IS NULL", file.display())));
        assert_eq!(read.trim(), "1", "{}", file.display());
        let loads = format!(
            "CREATE TEMPORARY TABLE app.t (a TEXT); LOAD DATA INFILE '{}' INTO TABLE app.t",
            file.display()
        );
        let loaded = tenant.sql(selkie, &loads);
        assert!(
            !loaded.status.success() && said(&loaded).contains("1290"),
            "{}",
            said(&loaded)
        );
    }
    // Where everybody may write, and where somebody's things are.
    for (number, dir) in [
        "/tmp".into(),
        "/dev/shm".into(),
        "/var/tmp".into(),
        other.dir(selkie).join("data"),
        selkie.data_dir(),
    ]
    .into_iter()
    .enumerate()
    {
        let dir: PathBuf = dir;
        let file = dir.join(format!("selkie-isolation-{}-{number}", tenant.project.id));
        for sql in [
            format!("SELECT 'x' INTO OUTFILE '{}'", file.display()),
            format!("SELECT 'x' INTO DUMPFILE '{}'", file.display()),
            format!(
                "SET GLOBAL general_log_file='{}', GLOBAL general_log=1; SELECT 1",
                file.display()
            ),
            format!(
                "SET GLOBAL slow_query_log_file='{}', GLOBAL slow_query_log=1; SELECT 1",
                file.display()
            ),
            format!(
                "CREATE TABLE app.d{number} (a INT) ENGINE=MyISAM DATA DIRECTORY='{}'",
                file.display()
            ),
            format!(
                "CREATE TABLE app.e{number} (a INT) ENGINE=InnoDB DATA DIRECTORY='{}'",
                file.display()
            ),
            format!(
                "SET GLOBAL innodb_tmpdir='{}'; SET SESSION innodb_tmpdir='{}'",
                dir.display(),
                dir.display()
            ),
        ] {
            let _answer = tenant.sql(selkie, &sql);
        }
        assert!(!file.exists(), "{} was made", file.display());
        let named = |path: &PathBuf| path.to_string_lossy().contains(&tenant.project.id);
        let mut made = std::fs::read_dir(&dir)
            .expect("a directory")
            .filter_map(|entry| Some(entry.ok()?.path()));
        let made: Vec<_> = made.by_ref().filter(named).collect();
        assert!(made.is_empty(), "{made:?}");
    }
}

#[tokio::test]
async fn root_of_its_server_loads_no_library_of_its_own() {
    let selkie = Selkie::shared().await;
    let tenant = Tenant::of(selkie, "library").await;
    let files = tenant.dir(selkie).join("files");
    let library = std::fs::read("/usr/lib/mysql/plugin/ha_example.so").expect("a library of MariaDB's own");
    let library: String = library.iter().map(|byte| format!("{byte:02x}")).collect();
    let own = files.join("own.so");
    // Too long for a command line.
    let mut client = Command::new("mariadb")
        .args(["--no-defaults", "-u", "root", "-S"])
        .arg(tenant.socket(selkie))
        .stdin(Stdio::piped())
        .spawn()
        .expect("the mariadb client");
    let writes = format!("SELECT X'{library}' INTO DUMPFILE '{}';\n", own.display());
    client
        .stdin
        .take()
        .expect("its input")
        .write_all(writes.as_bytes())
        .expect("a statement");
    assert!(
        client.wait().expect("its end").success() && own.exists(),
        "a library can be written, where it is of no use"
    );
    for name in [
        "own.so".to_owned(),
        own.display().to_string(),
        format!("../../../..{}", own.display()),
    ] {
        for sql in [
            format!("INSTALL SONAME '{name}'"),
            format!("INSTALL PLUGIN example SONAME '{name}'"),
            format!("CREATE FUNCTION f RETURNS INTEGER SONAME '{name}'"),
        ] {
            let answer = tenant.sql(selkie, &sql);
            assert!(!answer.status.success(), "{sql}: {}", said(&answer));
        }
    }
    let moved = tenant.sql(selkie, &format!("SET GLOBAL plugin_dir='{}'", files.display()));
    assert!(said(&moved).contains("1238"), "read only: {}", said(&moved));
    let there = said(&tenant.sql(selkie, "SELECT @@plugin_dir"));
    assert!(
        tenant
            .process("test")
            .args(["-w", there.trim()])
            .output()
            .is_ok_and(|it| !it.status.success()),
        "{there}"
    );
}

#[tokio::test]
async fn root_of_its_server_reaches_no_network_and_no_other_server() {
    let selkie = Selkie::shared().await;
    let (tenant, other) = (
        Tenant::of(selkie, "network").await,
        Tenant::of(selkie, "neighbour").await,
    );
    let engine = tenant.sql(selkie, "INSTALL SONAME 'ha_federatedx'");
    assert!(
        engine.status.success(),
        "MariaDB's own engine for other servers: {}",
        said(&engine)
    );
    // Whoever connects is seen: a server that may connect to this listener could connect to any service of Selkie.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let port = listener.local_addr().expect("its port").port();
    let tcp = format!(
        "CREATE TABLE app.f (a TEXT) ENGINE=FEDERATED CONNECTION='mysql://app:x@127.0.0.1:{port}/app/secret'; \
         SELECT * FROM app.f"
    );
    assert!(!tenant.sql(selkie, &tcp).status.success());
    let refused = || said(&other.sql(selkie, "SHOW GLOBAL STATUS LIKE 'Aborted_connects'"));
    let before = refused();
    let unix = format!(
        "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (SOCKET '{}', USER 'app', PASSWORD 'x', DATABASE 'app', \
         HOST 'localhost'); \
         CREATE TABLE app.g (a TEXT) ENGINE=FEDERATED CONNECTION='s/secret'; SELECT * FROM app.g",
        other.socket(selkie).display()
    );
    assert!(!tenant.sql(selkie, &unix).status.success());
    assert_eq!(refused(), before, "not let in, nor even heard");
    let replica = format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='x', MASTER_PASSWORD='x', MASTER_CONNECT_RETRY=1; \
         START SLAVE IO_THREAD"
    );
    selkie.logs.allow("Slave I/O");
    selkie.logs.allow("Neither --relay-log nor --relay-log-index were used");
    selkie.logs.allow("error connecting to master");
    let begun = tenant.sql(selkie, &replica);
    assert!(begun.status.success(), "{}", said(&begun));
    harness::eventually("the replica says that it does not connect", async || {
        let status = said(&tenant.sql(selkie, "SHOW SLAVE STATUS"));
        status.contains("error connecting to master").then_some(())
    })
    .await;
    let came = listener.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(came, Err(std::io::ErrorKind::WouldBlock), "somebody has connected");
    tenant.sql(selkie, "STOP SLAVE; RESET SLAVE ALL");
}

#[tokio::test]
async fn a_server_has_given_up_all_that_it_does_not_need() {
    let selkie = Selkie::shared().await;
    let tenant = Tenant::of(selkie, "given-up").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", tenant.pid)).expect("its status");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), vec![tenant.uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![tenant.uid.to_string(); 4]);
    assert!(field("Groups:").is_empty(), "{status}");
    assert_eq!(
        (field("CapEff:"), field("CapPrm:")),
        (vec!["0".repeat(16)], vec!["0".repeat(16)])
    );
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:")),
        (vec!["1".into()], vec!["2".into()])
    );
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("its network");
    assert_ne!(space(&tenant.pid.to_string()), space("self"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", tenant.pid)).expect("its limits");
    for limit in ["Max data size", "Max processes", "Max core file size"] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap_or_default();
        assert!(!line.is_empty() && !line.contains("unlimited"), "{line}");
    }
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", tenant.pid)).expect("its score");
    assert_eq!(score.trim(), "500");
}

#[tokio::test]
async fn a_process_of_a_project_gets_at_nothing_of_others() {
    let selkie = Selkie::shared().await;
    let (tenant, other) = (Tenant::of(selkie, "process").await, Tenant::of(selkie, "beside").await);
    let mut files = Vec::new();
    below(&selkie.data_dir(), &mut files);
    let is_own = |file: &&str| {
        Path::new(file)
            .components()
            .any(|part| part.as_os_str() == tenant.project.id.as_str())
    };
    let mut shell = tenant
        .process("bash")
        .args([
            "-c",
            "while IFS= read -r file; do if [[ -f $file && -r $file || -w $file ]]; then echo \"$file\"; fi; done",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let list: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
    let mut input = shell.stdin.take().expect("its input");
    let feed = std::thread::spawn(move || input.write_all(list.as_bytes()));
    let open = shell.wait_with_output().expect("its answer");
    feed.join().expect("the thread").expect("the list");
    let open = String::from_utf8_lossy(&open.stdout).into_owned();
    assert!(open.lines().any(|file| is_own(&file)), "its own files it has: {open}");
    let foreign: Vec<_> = open.lines().filter(|file| !is_own(file)).collect();
    // A certificate is shown to everybody who connects.
    let foreign: Vec<_> = foreign.into_iter().filter(|file| !file.ends_with(".pem")).collect();
    assert!(foreign.is_empty(), "{foreign:#?}");

    for socket in [
        other.socket(selkie),
        other.socket(selkie).with_file_name("a.sock"),
        tenant.socket(selkie).with_file_name("a.sock"),
    ] {
        let answer = tenant
            .process("mariadb")
            .args([
                "--no-defaults",
                "--connect-timeout=5",
                "-u",
                "app",
                "-px",
                "-e",
                "SELECT 1",
                "-S",
            ])
            .arg(&socket)
            .output()
            .expect("the client");
        assert!(
            said(&answer).contains("(13)"),
            "{}: {}",
            socket.display(),
            said(&answer)
        );
    }
    for pid in [other.pid, selkie.pid()] {
        for secret in ["mem", "environ", "fd", "maps"] {
            let path = format!("/proc/{pid}/{secret}");
            let read = tenant
                .process("ls")
                .args(["-L", &format!("{path}/")])
                .output()
                .expect("ls");
            let dumped = tenant.process("head").args(["-c", "1", &path]).output().expect("head");
            assert!(
                !read.status.success() && !dumped.status.success(),
                "{path}: {}",
                said(&dumped)
            );
        }
        let signal = tenant
            .process("bash")
            .args(["-c", &format!("kill -0 {pid}")])
            .output()
            .expect("bash");
        assert!(said(&signal).contains("not permitted"), "{}", said(&signal));
    }
}

#[tokio::test]
async fn a_server_takes_no_more_memory_than_its_size_gives_and_others_go_on() {
    let selkie = Selkie::shared().await;
    let (tenant, other) = (Tenant::of(selkie, "memory").await, Tenant::of(selkie, "unharmed").await);
    selkie.logs.allow("out of memory");
    selkie.logs.allow("Out of memory");
    // 16 GiB in memory, doubled with each round, would be there in seconds.
    let greedy = "SET SESSION max_heap_table_size=17179869184; CREATE TABLE app.m (a CHAR(255)) ENGINE=MEMORY CHARACTER SET latin1; \
         INSERT INTO app.m SELECT REPEAT('x', 255) FROM seq_1_to_1000000; INSERT INTO app.m SELECT * FROM app.m; \
         INSERT INTO app.m SELECT * FROM app.m; INSERT INTO app.m SELECT * FROM app.m; INSERT INTO app.m SELECT * FROM app.m";
    let answer = tenant.sql(selkie, greedy);
    assert!(!answer.status.success(), "somewhere memory ends");
    // 0.25 CU are 1 GiB, 0.75 GiB any server has, and 508 connections 2 MiB each.
    assert!(harness::process::resident_bytes_max(tenant.pid) < 2850 << 20);
    let mut conn = other.project.endpoint.connect().await;
    run(&mut conn, "INSERT INTO secret VALUES ('still here')").await;
}

#[tokio::test]
async fn links_in_its_own_directory_lead_to_nothing_of_others() {
    let selkie = Selkie::start().await;
    for line in ["theirs", "loot", "error number 13", "Permission denied", "(errno: 13"] {
        selkie.logs.allow(line);
    }
    let (tenant, other) = (Tenant::of(&selkie, "links").await, Tenant::of(&selkie, "linked").await);
    let makes = |name: &str| {
        format!("CREATE TABLE app.{name} (a TEXT) ENGINE=MyISAM; INSERT INTO app.{name} VALUES ('loot'); FLUSH TABLES")
    };
    for (of, name) in [(&other, "loot"), (&tenant, "own")] {
        let made = of.sql(&selkie, &makes(name));
        assert!(made.status.success(), "{}", said(&made));
    }
    // A server can make no links, but it may have found a way. They are the best that its OS user could make.
    let (own, theirs) = (tenant.dir(&selkie), other.dir(&selkie));
    let link = |to: PathBuf, at: PathBuf| {
        let made = tenant.process("ln").arg("-s").args([&to, &at]).output().expect("ln");
        assert!(made.status.success(), "{}", said(&made));
    };
    link(own.join("data/app"), own.join("data/again"));
    link(theirs.join("data/app"), own.join("data/theirs"));
    for file in ["loot.frm", "loot.MYD", "loot.MYI"] {
        link(theirs.join("data/app").join(file), own.join("data/app").join(file));
    }
    link(theirs.join("data"), own.join("files/theirs"));

    let followed = tenant.sql(&selkie, "SELECT a FROM again.own");
    assert_eq!(
        said(&followed).trim(),
        "loot",
        "links are followed, where rights let them"
    );
    let secret = own.join("files/theirs/app/loot.MYD");
    let planted = own.join("files/theirs/planted");
    for sql in [
        "SELECT a FROM theirs.loot".to_owned(),
        "SELECT a FROM theirs.secret".to_owned(),
        "SELECT a FROM app.loot".to_owned(),
        "INSERT INTO app.loot VALUES ('x')".to_owned(),
        "CREATE TABLE theirs.planted (a INT)".to_owned(),
        format!("SELECT a INTO OUTFILE '{}' FROM app.own", planted.display()),
        format!("LOAD DATA INFILE '{}' INTO TABLE app.own", secret.display()),
        "DROP DATABASE theirs".to_owned(),
    ] {
        let answer = tenant.sql(&selkie, &sql);
        assert!(
            !answer.status.success() && answer.stdout.is_empty(),
            "{sql}: {}",
            said(&answer)
        );
    }
    let read = said(&tenant.sql(&selkie, &format!("SELECT LOAD_FILE('{}') IS NULL", secret.display())));
    assert_eq!(read.trim(), "1");
    let kept = other.sql(
        &selkie,
        "SELECT (SELECT a FROM app.loot), (SELECT COUNT(*) FROM app.secret)",
    );
    assert_eq!(said(&kept).trim(), "loot\t1", "and nothing of theirs has changed");
    for dir in ["data/app", "data"] {
        assert!(!theirs.join(dir).join("planted.frm").exists() && !theirs.join(dir).join("planted").exists());
    }
}
