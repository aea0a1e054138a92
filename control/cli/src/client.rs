//! The commands that talk to a running control plane over REST, and how its answers are shown.

use std::io::{BufRead, Write};
use std::time::Duration;

use control_api::rest::{
    AuditEntry, AuditList, ChangeProject, ChangeUser, Compute, CreateDatabase, CreateProject, CreateUser, Database,
    DatabaseList, DeletedProject, DeletedProjectList, Key, KeyList, Operation, OperationList, Problem, Project,
    ProjectCreated, ProjectList, Setting, SettingList, Transition, TransitionList, User, UserCreated, UserList,
};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::{Common, ComputeVerb, DatabaseVerb, ProjectVerb, UserVerb};
use crate::demo::UpJson;
use crate::failure::{Failure, Kind};
use crate::settings::Settings;
use crate::small_runtime;

pub(crate) mod audit;
mod confirm;
mod history;
pub(crate) mod keys;
pub(crate) mod operations;
pub(crate) mod settings;
pub(crate) mod usage;
pub(crate) mod wakes;

/// REST gives at most this many at once.
const PAGE_MAX: u32 = 1000;

/// A wake may take its 60 s, a delete has to stop a compute first.
const PATIENCE: Duration = Duration::from_secs(150);

/// A control plane's REST API.
pub(crate) struct Rest {
    http: reqwest::Client,
    url: String,
    api_key: String,
}

impl Rest {
    pub(crate) fn new(url: String, api_key: String) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let base = url.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Failure::new(format!(
                "--url {url}: begins with neither http:// nor https://"
            )));
        }
        Ok(Self {
            http,
            // Also as `selkie up` prints it.
            url: base.strip_suffix("/api/v1").unwrap_or(base).to_owned(),
            api_key,
        })
    }

    /// By flags, environment, or the `up.json` of the data directory, which the settings may name.
    fn find(common: &Common) -> Result<Self, Failure> {
        let given_key = match &common.api_key_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Failure::of(path.display(), e))?;
                Some(text.trim().to_owned())
            }
            None => std::env::var("SELKIE_API_KEY").ok(),
        };
        if let (Some(url), Some(key)) = (&common.url, &given_key) {
            return Self::new(url.clone(), key.clone());
        }
        let dir = Settings::load(common)?.data_dir;
        let Some(up) = UpJson::read(&dir)? else {
            let missing = match (&common.url, &given_key) {
                (Some(_), _) => "no API key",
                (None, Some(_)) => "no control plane known but its key",
                (None, None) => "no control plane known",
            };
            return Err(Failure::new(format!(
                "{missing}: {} has no up.json. Run `selkie up`, or name it with --data-dir; one without up.json with --url, and its \
                 key with SELKIE_API_KEY or --api-key-file (`selkie control` makes DATA_DIR/control/api.key)",
                dir.display()
            )));
        };
        Self::new(
            common.url.clone().unwrap_or(up.rest.url),
            given_key.unwrap_or(up.rest.api_key),
        )
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<reqwest::Response, Failure> {
        let mut request = self
            .http
            .request(method, format!("{}/api/v1{path}", self.url))
            .bearer_auth(&self.api_key);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|e| self.unanswered(&e))
    }

    fn unanswered(&self, error: &reqwest::Error) -> Failure {
        let url = &self.url;
        if error.is_builder() {
            return Failure::new(format!("--url {url}: is no URL"));
        }
        let text = if error.is_connect() {
            format!("no control plane answers at {url}; is `selkie up` running?")
        } else if error.is_timeout() {
            format!("{url} has not answered within {} s", PATIENCE.as_secs())
        } else {
            // As of a port where another protocol is spoken.
            format!(
                "what answers at {url} is no control plane, or has ended meanwhile: {}",
                cause(error)
            )
        };
        Failure::of_kind(Kind::Unavailable, text)
    }

    async fn answer<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, Failure> {
        let response = Self::checked(response).await?;
        let url = response.url().clone();
        response.json().await.map_err(|e| match e.is_decode() {
            true => Failure::new(format!(
                "{url} does not answer as this version's control plane does: {}",
                cause(&e)
            )),
            false => Failure::of(url, e),
        })
    }

    async fn checked(response: reqwest::Response) -> Result<reqwest::Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = response.url().clone();
        match response.json::<Problem>().await {
            Ok(problem) => Err(Failure::of_kind(kind_of(status), told(&problem))),
            // A proxy whose control plane is away, or another program: its 404 says nothing of what was asked for.
            Err(_) => Err(Failure::of_kind(
                match kind_of(status) {
                    Kind::NotFound => Kind::Failed,
                    kind => kind,
                },
                format!("{url} answered {status}, and not as a control plane does; is it the right --url?"),
            )),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Self::answer(self.send(Method::GET, path, None::<&()>).await?).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        Self::answer(self.send(Method::POST, path, Some(body)).await?).await
    }

    async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        Self::answer(self.send(Method::PATCH, path, Some(body)).await?).await
    }

    async fn post_nothing<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Self::answer(self.send(Method::POST, path, None::<&()>).await?).await
    }

    async fn delete(&self, path: &str) -> Result<(), Failure> {
        let response = self.send(Method::DELETE, path, None::<&()>).await?;
        Self::checked(response).await.map(|_| ())
    }

    pub(crate) async fn delete_if_there(&self, path: &str) -> Result<(), Failure> {
        if self.exists(path).await? {
            self.delete(path).await
        } else {
            Ok(())
        }
    }

    pub(crate) async fn exists(&self, path: &str) -> Result<bool, Failure> {
        let response = self.send(Method::GET, path, None::<&()>).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        Self::checked(response).await.map(|_| true)
    }
}

/// What lies at the bottom of an error, which says it all.
fn cause(error: &dyn std::error::Error) -> &dyn std::error::Error {
    error.source().map_or(error, cause)
}

fn kind_of(status: StatusCode) -> Kind {
    match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Kind::Unavailable,
        status if status.is_server_error() => Kind::Unavailable,
        _ => Kind::Failed,
    }
}

/// In the control plane's words, with what to do where that is not in them.
fn told(problem: &Problem) -> String {
    let hint = match problem.code.as_str() {
        "unauthorized" => "; see --api-key-file and SELKIE_API_KEY",
        "project_not_found" => "; `selkie project list` shows those there are",
        "operation_not_found" => "; `selkie operations list PROJECT` shows those there are",
        "forbidden" => "; `selkie key list`, with an admin key, shows what each may do",
        "setting_not_allowed" => "; `selkie settings list PROJECT --all` shows those there are",
        _ => "",
    };
    format!("{} ({}){hint}", problem.detail, problem.code)
}

pub(crate) fn project(common: &Common, verb: &ProjectVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        match verb {
            ProjectVerb::List { deleted: true } => {
                let gone = all::<DeletedProjectList>(&rest, "/deleted-projects").await?;
                let row = |project: &DeletedProject| {
                    let DeletedProject {
                        id,
                        created_at,
                        deleted_at,
                        size_cu,
                    } = project.clone();
                    vec![id, size_cu.to_string(), created_at, deleted_at]
                };
                show(common, &gone, || {
                    table(&["PROJECT", "CU", "CREATED", "DELETED"], gone.iter().map(row))
                })
            }
            ProjectVerb::List { deleted: false } => {
                let projects = all::<ProjectList>(&rest, "/projects").await?;
                show(common, &projects, || {
                    table(&["PROJECT", "STATE", "CU", "CREATED"], projects.iter().map(project_row))
                })
            }
            ProjectVerb::Create {
                project,
                size_cu,
                wake_timeout,
                allow_network,
            } => {
                let body = CreateProject {
                    id: project.clone(),
                    size_cu: *size_cu,
                    wake_timeout: wake_timeout.clone(),
                    allowed_networks: allow_network.clone(),
                    user: None,
                    database: None,
                };
                let made: ProjectCreated = rest.post("/projects", &body).await?;
                show(common, &made, || {
                    format!("project {project} is there, asleep; next: selkie user create {project} NAME\n")
                })
            }
            ProjectVerb::Show { project } => {
                let found: Project = rest.get(&path(&["projects", project])?).await?;
                let text = match common.json {
                    true => String::new(),
                    false => whole(&rest, &found).await?,
                };
                show(common, &found, || text)
            }
            ProjectVerb::Set {
                project,
                size_cu,
                wake_timeout,
                suspend_after,
                pinned_idle_timeout,
            } => {
                let body = ChangeProject {
                    size_cu: size_cu.map(|size| size.0),
                    wake_timeout: wake_timeout.clone().map(unless_default),
                    suspend_after: suspend_after.clone().map(unless_default),
                    pinned_idle_timeout: pinned_idle_timeout.clone().map(unless_default),
                    allowed_networks: None,
                };
                let changed: Project = rest.patch(&path(&["projects", project])?, &body).await?;
                show(common, &changed, || details(&project_details(&changed)))
            }
            ProjectVerb::AllowNetwork { project, networks } => {
                let anywhere = networks.len() == 1 && networks[0] == "any";
                let body = ChangeProject {
                    allowed_networks: Some((!anywhere).then(|| networks.clone())),
                    ..ChangeProject::default()
                };
                let changed: Project = rest.patch(&path(&["projects", project])?, &body).await?;
                show(common, &changed, || details(&project_details(&changed)))
            }
            ProjectVerb::Delete { project, sure } => {
                let path = path(&["projects", project])?;
                confirm::sure(*sure, "project", project, "its databases and users go, for good")?;
                rest.delete(&path).await?;
                show(common, &Gone { deleted: project }, || {
                    format!("project {project} is gone, with its data\n")
                })
            }
        }
    })
}

/// `default` stands for what the control plane's settings say.
fn unless_default(text: String) -> Option<String> {
    (text != "default").then_some(text)
}

pub(crate) fn user(common: &Common, verb: &UserVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        match verb {
            UserVerb::List { project } => {
                let users = all::<UserList>(&rest, &path(&["projects", project, "users"])?).await?;
                let row = |user: &User| {
                    vec![
                        user.name.clone(),
                        if user.admin { "yes" } else { "no" }.into(),
                        user.source.clone(),
                        user.host.clone(),
                        user.require.clone().unwrap_or_default(),
                        user.created_at.clone().unwrap_or_default(),
                        user.reason.clone().unwrap_or_default(),
                    ]
                };
                show(common, &users, || {
                    table(
                        &[
                            "USER",
                            "ADMIN",
                            "MADE BY",
                            "HOST",
                            "REQUIRE",
                            "CREATED",
                            "CANNOT LOG IN BECAUSE",
                        ],
                        users.iter().map(row),
                    )
                })
            }
            UserVerb::Show { project, user } => {
                let found: User = rest.get(&path(&["projects", project, "users", user])?).await?;
                let admin = if found.admin { "yes" } else { "no" };
                let mut rows = vec![
                    ("user", found.name.clone()),
                    ("logs in as", format!("{project}.{}", found.name)),
                    ("admin", admin.into()),
                    ("made by", found.source.clone()),
                    ("host", found.host.clone()),
                ];
                rows.extend(found.require.clone().map(|require| ("require", require)));
                rows.extend(found.created_at.clone().map(|created| ("created", created)));
                rows.extend(found.reason.clone().map(|reason| ("cannot log in", reason)));
                show(common, &found, || details(&rows))
            }
            UserVerb::SetPassword {
                project,
                user,
                password_stdin,
            } => {
                let body = ChangeUser {
                    password: given_password(*password_stdin)?,
                };
                let changed: UserCreated = rest.patch(&path(&["projects", project, "users", user])?, &body).await?;
                show(common, &changed, || match &changed.password {
                    Some(password) => format!("user {user} has a new password\n{password}\n"),
                    None => format!("user {user} has a new password\n"),
                })
            }
            UserVerb::Create {
                project,
                user,
                admin,
                password_stdin,
            } => {
                let body = CreateUser {
                    name: user.clone(),
                    password: given_password(*password_stdin)?,
                    admin: *admin,
                };
                let made: UserCreated = rest.post(&path(&["projects", project, "users"])?, &body).await?;
                show(common, &made, || match &made.password {
                    Some(password) => {
                        format!("user {user}; log in as {project}.{user} with the password\n{password}\n")
                    }
                    None => format!("user {user}; log in as {project}.{user}\n"),
                })
            }
            UserVerb::Delete { project, user, sure } => {
                let path = path(&["projects", project, "users", user])?;
                confirm::sure(*sure, "user", user, "nobody can log in by it any more")?;
                rest.delete(&path).await?;
                show(common, &Gone { deleted: user }, || format!("user {user} is gone\n"))
            }
        }
    })
}

pub(crate) fn database(common: &Common, verb: &DatabaseVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        match verb {
            DatabaseVerb::List { project } => {
                let databases = all::<DatabaseList>(&rest, &path(&["projects", project, "databases"])?).await?;
                let made = |found: &Database| if found.made_by_api { "here" } else { "in SQL" }.to_owned();
                show(common, &databases, || {
                    let rows = databases.iter().map(|found| vec![found.name.clone(), made(found)]);
                    table(&["DATABASE", "MADE"], rows)
                })
            }
            DatabaseVerb::Create { project, database } => {
                let body = CreateDatabase { name: database.clone() };
                let made: Database = rest.post(&path(&["projects", project, "databases"])?, &body).await?;
                show(common, &made, || format!("database {database} is there\n"))
            }
            DatabaseVerb::Delete {
                project,
                database,
                sure,
            } => {
                let path = path(&["projects", project, "databases", database])?;
                confirm::sure(*sure, "database", database, "its tables go, for good")?;
                rest.delete(&path).await?;
                show(common, &Gone { deleted: database }, || {
                    format!("database {database} is gone, with its data\n")
                })
            }
        }
    })
}

pub(crate) fn compute(common: &Common, verb: &ComputeVerb) -> Result<(), Failure> {
    let rest = Rest::find(common)?;
    small_runtime()?.block_on(async {
        let compute: Compute = match verb {
            ComputeVerb::History { project, limit } => return history::history(common, &rest, project, *limit).await,
            ComputeVerb::Show { project } => rest.get(&path(&["projects", project, "compute"])?).await?,
            ComputeVerb::Suspend { project } => {
                rest.post_nothing(&path(&["projects", project, "compute", "suspend"])?)
                    .await?
            }
            ComputeVerb::Wake { project } => {
                rest.post_nothing(&path(&["projects", project, "compute", "wake"])?)
                    .await?
            }
        };
        show(common, &compute, || details(&compute_details(&compute)))
    })
}

/// A path of these segments; what a person typed stays one segment, whatever is in it.
fn path(segments: &[&str]) -> Result<String, Failure> {
    let mut path = String::new();
    for segment in segments {
        // These would walk the path, also when written as %2E.
        if matches!(*segment, "" | "." | "..") {
            return Err(Failure::new(format!("`{segment}` is not a name")));
        }
        path.push('/');
        path.push_str(&escaped(segment));
    }
    Ok(path)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[derive(Serialize)]
struct Gone<'a> {
    deleted: &'a str,
}

/// A list of the REST API.
trait List: DeserializeOwned {
    type Item;

    /// This page, and what the next comes after.
    fn page(self) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! lists {
    ($($list:ident . $items:ident: $item:ty),*) => {$(
        impl List for $list {
            type Item = $item;

            fn page(self) -> (Vec<$item>, Option<String>) {
                (self.$items, self.next)
            }
        }
    )*};
}

lists! {
    ProjectList.projects: Project,
    DeletedProjectList.projects: DeletedProject,
    UserList.users: User,
    DatabaseList.databases: Database,
    SettingList.settings: Setting,
    KeyList.keys: Key,
    AuditList.entries: AuditEntry,
    OperationList.operations: Operation,
    TransitionList.transitions: Transition
}

/// All pages of a list.
async fn all<L: List>(rest: &Rest, path: &str) -> Result<Vec<L::Item>, Failure> {
    let (mut all, mut next) = rest.get::<L>(path).await?.page();
    while let Some(after) = next {
        let (items, then) = rest
            .get::<L>(&format!("{path}?after={}", escaped(&after)))
            .await?
            .page();
        all.extend(items);
        next = then;
    }
    Ok(all)
}

/// The first so many of a list that begins with the latest.
async fn latest<L: List>(rest: &Rest, path: &str, limit: u32) -> Result<Vec<L::Item>, Failure> {
    let (mut latest, mut after) = (Vec::new(), String::new());
    loop {
        let left = limit.saturating_sub(u32::try_from(latest.len()).unwrap_or(u32::MAX));
        if left == 0 {
            return Ok(latest);
        }
        let asked = format!("{path}?limit={}{after}", left.min(PAGE_MAX));
        let (items, next) = rest.get::<L>(&asked).await?.page();
        latest.extend(items);
        match next {
            Some(next) => after = format!("&after={}", escaped(&next)),
            None => return Ok(latest),
        }
    }
}

fn given_password(stdin: bool) -> Result<Option<String>, Failure> {
    stdin.then(password_from_stdin).transpose()
}

fn password_from_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::new(
            "standard input has no password on its first line (`--password-stdin`)",
        ));
    }
    Ok(password.to_owned())
}

fn project_row(project: &Project) -> Vec<String> {
    let state = project.compute.state.as_str().to_owned();
    vec![
        project.id.clone(),
        state,
        project.size_cu.to_string(),
        project.created_at.clone(),
    ]
}

fn project_details(project: &Project) -> Vec<(&'static str, String)> {
    let mut rows = vec![("project", project.id.clone()), ("created", project.created_at.clone())];
    // As `project set` takes it.
    let own = |time: &Option<String>| time.clone().unwrap_or_else(|| "default".into());
    rows.push(("wake timeout", own(&project.wake_timeout)));
    rows.push(("suspend after", own(&project.suspend_after)));
    rows.push(("pinned idle timeout", own(&project.pinned_idle_timeout)));
    if let Some(networks) = &project.allowed_networks {
        rows.push(("allowed networks", networks.join(", ")));
    }
    rows.extend(compute_details(&project.compute));
    if project.size_cu != project.compute.size_cu {
        rows.push(("next start's size", format!("{} CU", project.size_cu)));
    }
    rows
}

/// Names that a line shows; the lists show all.
const NAMED_MAX: usize = 20;

/// Everything of a project, for people.
async fn whole(rest: &Rest, project: &Project) -> Result<String, Failure> {
    let of = |what| path(&["projects", &project.id, what]);
    let users = all::<UserList>(rest, &of("users")?).await?;
    let databases = all::<DatabaseList>(rest, &of("databases")?).await?;
    let settings = all::<SettingList>(rest, &of("settings")?).await?;
    let set = settings.iter().filter(|setting| setting.is_set);
    let mut rows = project_details(project);
    rows.push(("users", names(users.iter().map(|user| user.name.clone()))));
    rows.push((
        "databases",
        names(databases.iter().map(|database| database.name.clone())),
    ));
    rows.push(("settings", names(set.map(settings::assignment))));
    Ok(details(&rows) + WHAT_SLEEPING_LOSES)
}

/// docs/sleeping.md in short.
const WHAT_SLEEPING_LOSES: &str = "
what a sleep loses (docs/sleeping.md)
  SET GLOBAL          the next start has the project's settings again: use `selkie settings set`
  MEMORY tables       are there and empty
  EVENTs              do not fire while it sleeps, and are not caught up with
  tied sessions       with an open transaction, a temporary table, a lock of GET_LOCK() or LOCK TABLES: they keep it awake
                      until pinned_idle_timeout, then end with an error that says so
  everything else     stays: data, users, grants, settings, and the connections of idle clients
";

fn names(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    let mut shown = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 if names.is_empty() => "none".into(),
        0 => shown,
        more => {
            shown.push_str(&format!(" and {more} more"));
            shown
        }
    }
}

fn compute_details(compute: &Compute) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("state", compute.state.as_str().to_owned()),
        ("since", compute.since.clone()),
        ("incarnation", compute.incarnation.to_string()),
        ("size", format!("{} CU", compute.size_cu)),
    ];
    if let Some(reason) = &compute.reason {
        rows.push(("reason", reason.clone()));
    }
    if !compute.kept_awake_by.is_empty() {
        rows.push(("kept awake by", compute.kept_awake_by.join(", ")));
    }
    rows
}

/// JSON for scripts, text for people.
fn show(common: &Common, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let text = if common.json {
        serde_json::to_string_pretty(value)? + "\n"
    } else {
        text()
    };
    print(text.as_bytes())
}

pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        // `selkie project list | head -1`.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Columns as wide as their widest cell.
/// On one line, and nothing that a terminal would obey: names of users and programs are what a tenant's clients say.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Besides controls those that turn the direction of what follows.
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(c.escape_unicode())
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows = rows.map(|row| row.iter().map(|cell| shown(cell)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows)
        .collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn details(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, value)| format!("{name:width$}  {}\n", shown(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let rows = [
            vec!["a".to_owned(), "suspended".to_owned()],
            vec!["longer".to_owned(), "ready".to_owned()],
        ];
        assert_eq!(
            table(&["PROJECT", "STATE"], rows.into_iter()),
            "PROJECT  STATE\na        suspended\nlonger   ready\n"
        );
    }

    #[test]
    fn what_a_tenant_says_moves_no_cursor_and_makes_no_row() {
        let said = "a\u{1b}[31m\nshop  ready\u{202e}\u{e4}\u{9b}";
        let expected = "a\\u{1b}[31m\\nshop  ready\\u{202e}\u{e4}\\u{9b}";
        let rows = [vec![said.to_owned()]];
        assert_eq!(table(&["PROGRAM"], rows.into_iter()), format!("PROGRAM\n{expected}\n"));
        assert_eq!(details(&[("user", said.to_owned())]), format!("user  {expected}\n"));
    }

    #[test]
    fn a_name_stays_one_segment_of_its_path() {
        assert_eq!(path(&["projects", "a/b?c é"]).unwrap(), "/projects/a%2Fb%3Fc%20%C3%A9");
        for name in ["", ".", ".."] {
            assert!(path(&["projects", name]).is_err(), "{name:?}");
        }
    }
}
