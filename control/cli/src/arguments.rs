//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use rustls_pki_types::DnsName;

/// Serverless MariaDB that you run yourself.
#[derive(Debug, Parser)]
#[command(name = "selkie", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 refused or failed; 2 wrong command line; 3 no control plane answers, or it cannot \
    do it now: try again; 4 there is no such thing; 5 a service was stopped and cut clients short.";

#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Where data, certificates and state are [default: /var/lib/selkie as root, else $XDG_STATE_HOME/selkie]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Settings, as TOML
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What is logged, as `info` or `gateway=debug,warn`
    #[arg(long, global = true, env = "SELKIE_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How it is logged
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// The control plane's REST address, for the commands that talk to one [default: from up.json]
    #[arg(long, global = true, env = "SELKIE_URL")]
    pub(crate) url: Option<String>,
    /// File with the API key [default: SELKIE_API_KEY, or from up.json]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Of what cannot be brought back.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Sure {
    /// Do not ask for the name again; needed where nobody sits at a terminal
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run everything on this machine, in the foreground
    Up(Up),
    /// Run a gateway
    Gateway,
    /// Run a control plane
    Control,
    /// Run beside a mariadbd (control does that)
    #[command(subcommand)]
    Agent(AgentVerb),
    /// Projects
    #[command(subcommand)]
    Project(ProjectVerb),
    /// Users of a project
    #[command(subcommand)]
    User(UserVerb),
    /// Databases of a project
    #[command(subcommand)]
    Database(DatabaseVerb),
    /// The compute of a project
    #[command(subcommand)]
    Compute(ComputeVerb),
    /// Server variables of a project
    #[command(subcommand)]
    Settings(SettingsVerb),
    /// API keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// What the control plane did with a project, step by step
    #[command(subcommand)]
    Operations(OperationsVerb),
    /// Who changed what and when, the latest first
    Audit(Audit),
    /// What a project used: up to five seconds ago
    Usage(UsageVerb),
    /// Who woke a project, for how long it ran, and who keeps it awake
    Wakes(Wakes),
    /// Make certificates for gateways and control planes on different machines
    Certificates(Certificates),
    /// Print a completion script, as `selkie completion bash > /etc/bash_completion.d/selkie`
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Make no demo project at the first start
    #[arg(long)]
    pub(crate) no_demo: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Certificates {
    /// Where to; `ca.pem` and `ca.key` there are used where they exist
    pub(crate) dir: PathBuf,
    /// A name or address by which gateways reach the control plane, beside this machine's own; may be given several times
    #[arg(long, value_name = "NAME", value_parser = host)]
    pub(crate) control: Vec<String>,
    /// Put new certificates in the place of those that are there; services take them at their next start
    #[arg(long)]
    pub(crate) force: bool,
}

fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() || DnsName::try_from(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write a host name or an address, without scheme and port".into())
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Make the template of the installed server version where it is missing; prints where it is
    Template {
        #[arg(long)]
        templates_dir: PathBuf,
        #[arg(long)]
        mariadbd: Option<PathBuf>,
    },
    /// Clone the template for a project
    Prepare {
        #[arg(long)]
        spec: PathBuf,
    },
    /// Run a compute
    Run {
        #[arg(long)]
        spec: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectVerb {
    /// All that the API key sees
    List {
        /// Those that were deleted, the latest first; what they used is kept for 400 days
        #[arg(long)]
        deleted: bool,
    },
    /// Make a project, asleep
    Create {
        project: String,
        /// Size in compute units: 1 is 1 vCPU and 4 GiB
        #[arg(long, value_name = "CU", value_parser = number)]
        size_cu: Option<f64>,
        /// How long a client's command waits for the database, such as 30s
        #[arg(long)]
        wake_timeout: Option<String>,
        /// Let clients in from this network only, such as 10.0.0.0/8 or an address, from the first moment on; may be given
        /// several times
        #[arg(long, value_name = "NETWORK")]
        allow_network: Option<Vec<String>>,
    },
    /// Everything of a project, and what sleeping loses
    Show { project: String },
    /// Change its size, how long its clients wait for it, and when it falls asleep; what is not named stays
    #[command(group(
        ArgGroup::new("change")
            .required(true)
            .multiple(true)
            .args(["size_cu", "wake_timeout", "suspend_after", "pinned_idle_timeout"])
    ))]
    Set {
        project: String,
        /// Size in compute units, between 0.05 and 256, from its next start on; or `default`
        #[arg(long, value_name = "CU", value_parser = size)]
        size_cu: Option<Size>,
        /// How long a client's command waits for the database, between 1s and 10m, or `default`
        #[arg(long)]
        wake_timeout: Option<String>,
        /// Suspend its compute when it was idle for so long, between 10s and 7d, or `never`, or `default`
        #[arg(long)]
        suspend_after: Option<String>,
        /// Close sessions that hold their compute (an open transaction) when they are idle for so long, or `default`
        #[arg(long)]
        pinned_idle_timeout: Option<String>,
    },
    /// Let clients in from these networks only; sessions from elsewhere are closed
    AllowNetwork {
        project: String,
        /// Networks such as 10.0.0.0/8 or addresses, instead of those before; or `any`
        #[arg(required = true)]
        networks: Vec<String>,
    },
    /// Stop its compute and remove its data for good
    Delete {
        project: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// A size, or none: the control plane's default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size(pub(crate) Option<f64>);

fn size(text: &str) -> Result<Size, String> {
    if text == "default" {
        return Ok(Size(None));
    }
    match number(text) {
        Ok(size) => Ok(Size(Some(size))),
        Err(why) => Err(format!("{why}, or `default`")),
    }
}

/// `inf` and `nan` are numbers for Rust, and nothing for JSON.
fn number(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| "write a number such as 0.5".into())
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// Those made here; SQL may have made others
    List {
        project: String,
    },
    Show {
        project: String,
        user: String,
    },
    /// Make a user; a password that was not given is generated and printed once
    Create {
        project: String,
        user: String,
        /// May make users, too
        #[arg(long)]
        admin: bool,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a user another password; one that was not given is generated and printed once
    SetPassword {
        project: String,
        user: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user; sessions that it has stay until they end
    Delete {
        project: String,
        user: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseVerb {
    /// Those made here and those made in SQL
    List {
        project: String,
    },
    Create {
        project: String,
        database: String,
    },
    /// Drop a database that was made here, with its data
    Delete {
        project: String,
        database: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ComputeVerb {
    /// Its state, and who keeps it awake
    Show { project: String },
    /// Put it to sleep and wait until it sleeps
    Suspend { project: String },
    /// Wake it and wait until it is ready
    Wake { project: String },
    /// What it did and when, the latest first: what it is billed by
    History {
        project: String,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettingsVerb {
    /// Those that are set; with --all, those that could be, too
    List {
        project: String,
        /// Also those that have their default
        #[arg(long)]
        all: bool,
    },
    /// One setting: value, default, what the running server has, what it takes
    Get { project: String, name: String },
    /// Set some; a running compute takes at once what it can, for the sessions that begin after it
    Set {
        project: String,
        /// As sql_mode=ANSI or max_allowed_packet=64M
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
        settings: Vec<(String, String)>,
    },
    /// Give some their default again
    Unset {
        project: String,
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    match name {
        "" => Err("the name before `=` is missing".into()),
        _ => Ok((name.into(), value.into())),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    List,
    Show {
        name: String,
    },
    /// Make a key and print it, once
    Create {
        name: String,
        /// admin: everything; project: one project; read-only: nothing is changed
        #[arg(long, value_enum)]
        scope: KeyScope,
        /// The only project that it sees
        #[arg(long)]
        project: Option<String>,
        /// Refused from then on, such as 90d
        #[arg(long)]
        expires_in: Option<String>,
    },
    /// End a key at once
    Delete {
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyScope {
    Admin,
    Project,
    ReadOnly,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperationsVerb {
    /// The latest first: makes, starts, suspends, changes and deletes, of 30 days
    List {
        project: String,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// One operation, also of a project that is gone
    Show { operation: String },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct UsageVerb {
    #[command(subcommand)]
    pub(crate) of: Option<UsageOf>,
    #[command(flatten)]
    pub(crate) wish: UsageWish,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UsageOf {
    /// What it used in a month, and what that costs by the prices of the control plane's settings
    Statement(StatementWish),
}

#[derive(Debug, Args)]
pub(crate) struct StatementWish {
    pub(crate) project: String,
    /// As 2026-11, UTC [default: the present one, which is open]
    #[arg(long, value_name = "MONTH")]
    pub(crate) month: Option<String>,
    /// Where several projects had the name: when it was made, as `selkie project list --deleted` says it
    #[arg(long, value_name = "TIME")]
    pub(crate) created_at: Option<String>,
    /// Print a table with commas, for spreadsheets
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UsageWish {
    // An option for clap alone: without a subcommand there is one.
    #[arg(required = true)]
    pub(crate) project: Option<String>,
    /// Since when, as 2026-11-25 or 2026-11-25T09:00:00Z [default: a day before --to]
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Until when, the same [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// A line for each
    #[arg(long, value_enum, default_value = "hour")]
    pub(crate) by: By,
    /// Where several projects had the name: when it was made, as `selkie project list --deleted` says it
    #[arg(long, value_name = "TIME")]
    pub(crate) created_at: Option<String>,
    /// Print a table with commas, for spreadsheets
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Hour,
    Day,
    Total,
}

impl By {
    /// As REST has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Total => "total",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Wakes {
    pub(crate) project: String,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Where several projects had the name: when it was made, as `selkie project list --deleted` says it
    #[arg(long, value_name = "TIME")]
    pub(crate) created_at: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Of this project only
    pub(crate) project: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}
