//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Serverless MariaDB that you run yourself.
#[derive(Debug, Parser)]
#[command(name = "selkie", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Args)]
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
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Make no demo project at the first start
    #[arg(long)]
    pub(crate) no_demo: bool,
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
    List,
    Create {
        project: String,
        /// Size in compute units: 1 is 1 vCPU and 4 GiB
        #[arg(long)]
        size_cu: Option<f64>,
        /// How long a client's command waits for the database, such as 30s
        #[arg(long)]
        wake_timeout: Option<String>,
    },
    Show {
        project: String,
    },
    /// Change when it falls asleep
    Set {
        project: String,
        /// Suspend its compute when it was idle for so long, between 10s and 7d, or `never`, or `default`
        #[arg(long)]
        suspend_after: Option<String>,
        /// Close sessions that hold their compute (an open transaction) when they are idle for so long, or `default`
        #[arg(long)]
        pinned_idle_timeout: Option<String>,
    },
    /// Stop its compute and remove its data for good
    Delete {
        project: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    List {
        project: String,
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
    Delete {
        project: String,
        user: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseVerb {
    List { project: String },
    Create { project: String, database: String },
    Delete { project: String, database: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ComputeVerb {
    Show { project: String },
    Suspend { project: String },
    Wake { project: String },
}
