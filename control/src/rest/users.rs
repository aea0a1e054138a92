//! `/projects/{id}/users`.

use std::collections::{HashMap, HashSet};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use control_api::rest;
use sha2::{Digest, Sha256};

use super::{
    Problem, Rest, change,
    decide::decided,
    page::Page,
    problem::{Body, Params, no_such},
    projects::{find, whole},
    tag::{self, Conditions},
};
use crate::{
    accounts::{self, ObservedAccount, Standing},
    clock,
    name::UserName,
    secret::{Password, Verifiers, hex},
    store::{NewUser, UserRecord, WholeProject},
};

/// A password that was given and checked, or made here. Of it only verifiers and what has to be told back are left.
struct Secret {
    verifiers: Verifiers,
    /// To be told once.
    generated: Option<Password>,
}

impl Secret {
    fn check(given: Option<String>) -> Result<Self, Problem> {
        Ok(match given {
            Some(given) => Self {
                verifiers: Verifiers::of(&Password::new(given)?),
                generated: None,
            },
            None => {
                let generated = Password::generate();
                Self {
                    verifiers: Verifiers::of(&generated),
                    generated: Some(generated),
                }
            }
        })
    }
}

/// A user whose name and password have been checked, or whose password was made here.
pub(super) struct Checked {
    pub(super) user: NewUser,
    /// To be told once.
    generated: Option<Password>,
}

pub(super) fn check(wish: rest::CreateUser) -> Result<Checked, Problem> {
    let rest::CreateUser { name, password, admin } = wish;
    let name = UserName::new(&name)?;
    let Secret { verifiers, generated } = Secret::check(password)?;
    Ok(Checked {
        user: NewUser { name, verifiers, admin },
        generated,
    })
}

impl Checked {
    pub(super) fn created(&self, record: &UserRecord) -> rest::UserCreated {
        rest::UserCreated {
            user: user(record, None, &Standing::of(&[])),
            password: self.generated.as_ref().map(Password::reveal),
        }
    }
}

/// Makes a user. It can log in when this answers, whether the compute is awake or not.
#[utoipa::path(
    post, path = "/projects/{id}/users", tag = "users",
    params(("id" = String, Path, description = "The project.")), request_body = rest::CreateUser,
    responses(
        (status = 201, body = rest::UserCreated),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Body(body): Body<rest::CreateUser>,
) -> Result<Response, Problem> {
    let id = find(&state, &id).await?.id;
    let checked = check(body)?;
    let now = clock::now();
    let NewUser { name, verifiers, admin } = checked.user.clone();
    let record = UserRecord {
        name,
        verifiers,
        admin,
        created: now,
        known: false,
        had: false,
        by_sql: false,
    };
    let (projects, user) = (state.projects.clone(), checked.user.clone());
    state
        .finish(async move { projects.add_user(&id, user, now).await })
        .await?;
    told_once(&state, StatusCode::CREATED, checked.created(&record), &record)
}

/// The answer that may tell a password, and without it when it is given again.
fn told_once(
    state: &Rest,
    status: StatusCode,
    told: rest::UserCreated,
    record: &UserRecord,
) -> Result<Response, Problem> {
    let response = tag::changed(status, &told, &changeable(state, Some(record), None))?;
    change::replayed_as(response, &without_password(told))
}

pub(super) fn without_password(told: rest::UserCreated) -> rest::UserCreated {
    rest::UserCreated { password: None, ..told }
}

/// The users made through this API and those made in SQL, in the order of their names.
#[utoipa::path(
    get, path = "/projects/{id}/users", tag = "users",
    params(("id" = String, Path, description = "The project."), Page),
    responses(
        (status = 200, body = rest::UserList),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<Rest>,
    Path(id): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<rest::UserList>, Problem> {
    let whole = whole(&state, &id).await?;
    let (users, next) = page.of(all(&whole), called);
    Ok(Json(rest::UserList { users, next }))
}

/// One user. `ETag` changes with the password, too, wherever that was given.
#[utoipa::path(
    get, path = "/projects/{id}/users/{name}", tag = "users",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The user.")),
    responses(
        (status = 200, body = rest::User),
        (status = 304, description = "As `If-None-Match` says."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let whole = whole(&state, &id).await?;
    let users = all(&whole);
    let found = users
        .iter()
        .find(|user| user.name == name && user.host == "%")
        .or_else(|| users.iter().find(|user| user.name == name))
        .ok_or_else(|| no_such("user", &name))?;
    match named(&whole, &name) {
        Ok(Named { record, account }) => conditions.answer(found, &changeable(&state, record, account)),
        // Nothing of it can be changed here.
        Err(_) => conditions.answer(found, found),
    }
}

/// Gives a user another password. It holds when this answers; who is logged in stays.
#[utoipa::path(
    patch, path = "/projects/{id}/users/{name}", tag = "users",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The user.")),
    request_body = rest::ChangeUser,
    responses(
        (status = 200, body = rest::UserCreated),
        (status = 400, body = rest::Problem, content_type = "application/problem+json"),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
    Body(body): Body<rest::ChangeUser>,
) -> Result<Response, Problem> {
    let secret = Secret::check(body.password)?;
    let changed = decided(
        &state,
        || whole(&state, &id),
        |whole| {
            let Named { record, account } = named(&whole, &name)?;
            conditions.allow(&changeable(&state, record, account))?;
            let changed = UserRecord {
                name: UserName::new(&name)?,
                verifiers: secret.verifiers.clone(),
                admin: account.map_or_else(|| record.is_some_and(|record| record.admin), |account| account.admin),
                created: record.map_or(0, |record| record.created),
                known: false,
                had: record.is_none_or(|record| record.had),
                by_sql: record.is_none_or(|record| record.by_sql),
            };
            let is_kept = record.is_some();
            let (projects, id, expected) = (
                state.projects.clone(),
                whole.record.id.clone(),
                Some(whole.access.revision),
            );
            let told = changed.clone();
            let change = async move {
                let UserRecord {
                    name, verifiers, admin, ..
                } = changed;
                if is_kept {
                    return projects.set_password(&id, &name, &verifiers, expected).await;
                }
                let user = NewUser { name, verifiers, admin };
                projects.adopt_user(&id, user, clock::now(), expected).await
            };
            Ok((change, told))
        },
    );
    let record = changed.await?;
    let told = rest::UserCreated {
        user: user(&record, None, &Standing::of(&[])),
        password: secret.generated.as_ref().map(Password::reveal),
    };
    told_once(&state, StatusCode::OK, told, &record)
}

/// Removes a user; who is logged in as it stays until the connection ends.
#[utoipa::path(
    delete, path = "/projects/{id}/users/{name}", tag = "users",
    params(("id" = String, Path, description = "The project."), ("name" = String, Path, description = "The user.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = rest::Problem, content_type = "application/problem+json"),
        (status = 409, body = rest::Problem, content_type = "application/problem+json"),
        (status = 412, body = rest::Problem, content_type = "application/problem+json"),
        (status = 503, body = rest::Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn delete(
    State(state): State<Rest>,
    Path((id, name)): Path<(String, String)>,
    conditions: Conditions,
) -> Result<StatusCode, Problem> {
    let removed = decided(
        &state,
        || whole(&state, &id),
        |whole| {
            let Named { record, account } = named(&whole, &name)?;
            conditions.allow(&changeable(&state, record, account))?;
            let (name, is_kept) = (UserName::new(&name)?, record.is_some());
            let (projects, id, expected) = (
                state.projects.clone(),
                whole.record.id.clone(),
                Some(whole.access.revision),
            );
            let change = async move {
                match is_kept {
                    true => projects.remove_user(&id, &name, expected).await,
                    false => projects.remove_sql_user(&id, &name, expected).await,
                }
            };
            Ok((change, ()))
        },
    );
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

/// A user that can be changed here; one of both is there.
struct Named<'a> {
    /// Absent where it was made in SQL and nothing of it is kept.
    record: Option<&'a UserRecord>,
    /// Where what the server has counts.
    account: Option<&'a ObservedAccount>,
}

fn named<'a>(whole: &'a WholeProject, name: &str) -> Result<Named<'a>, Problem> {
    let seen = whole.observed.as_ref().map_or(&[][..], |observed| &observed.accounts);
    let account = seen.iter().find(|account| account.is(name));
    if let Some(record) = whole.access.users.iter().find(|user| user.name.as_str() == name) {
        return Ok(Named {
            record: Some(record),
            account: account.filter(|_| record.known),
        });
    }
    let is_removed = whole.access.removed_users.iter().any(|user| user.as_str() == name);
    if account.is_some() && !is_removed {
        return Ok(Named { record: None, account });
    }
    match seen.iter().find(|account| account.user == name && account.host != "%") {
        Some(account) => Err(Problem::new(
            StatusCode::CONFLICT,
            "made_in_sql",
            "the user can be changed in SQL only",
            format!("its host is '{}'; users of host '%' can be changed here", account.host),
        )),
        None => Err(no_such("user", name)),
    }
}

fn user(record: &UserRecord, account: Option<&ObservedAccount>, standing: &Standing<'_>) -> rest::User {
    rest::User {
        name: record.name.to_string(),
        admin: account.map_or(record.admin, |account| account.admin),
        created_at: (!record.by_sql).then(|| clock::rfc3339(record.created)),
        source: if record.by_sql { "sql" } else { "api" }.into(),
        host: "%".into(),
        require: account.and_then(ObservedAccount::require_text),
        reason: account.and_then(|account| accounts::reason(account, standing)),
    }
}

/// With what its password leaves behind, so mixed that nobody can guess the password from the tag. `account`: what the server
/// has counts.
fn changeable(
    state: &Rest,
    record: Option<&UserRecord>,
    account: Option<&ObservedAccount>,
) -> (Option<rest::User>, [u8; 32]) {
    let mut mixed = Sha256::new().chain_update(*state.tag_secret);
    match (record, account) {
        (_, Some(account)) => account.native_sha1.iter().for_each(|verifier| mixed.update(verifier)),
        (Some(record), None) => mixed.update(hex(&record.verifiers.native_sha1)),
        (None, None) => {}
    }
    let user = match record {
        Some(record) => Some(user(record, account, &Standing::of(&[]))),
        None => account.map(|account| sql_user(account, &Standing::of(&[]))),
    };
    // Neither is changed here, nor known at once to who changes something else.
    let without_reason = |user| rest::User {
        require: None,
        reason: None,
        ..user
    };
    (user.map(without_reason), mixed.finalize().into())
}

fn sql_user(account: &ObservedAccount, standing: &Standing<'_>) -> rest::User {
    rest::User {
        name: account.user.clone(),
        admin: account.admin,
        created_at: None,
        source: "sql".into(),
        host: account.host.clone(),
        require: account.require_text(),
        reason: accounts::reason(account, standing),
    }
}

/// Those made by API and those that the server has besides, in the order of what they are called.
fn all(whole: &WholeProject) -> Vec<rest::User> {
    let access = &whole.access;
    let seen = whole.observed.as_ref().map_or(&[][..], |observed| &observed.accounts);
    let standing = Standing::of(seen);
    let of_any_host = seen.iter().filter(|account| account.host == "%");
    let anywhere: HashMap<&str, &ObservedAccount> =
        of_any_host.map(|account| (account.user.as_str(), account)).collect();
    let made = access.users.iter().map(|record| record.name.as_str());
    let elsewhere: HashSet<&str> = made.chain(access.removed_users.iter().map(UserName::as_str)).collect();
    let by_api = access.users.iter().map(|record| {
        let name = record.name.as_str();
        user(record, anywhere.get(name).copied().filter(|_| record.known), &standing)
    });
    let by_sql = seen
        .iter()
        .filter(|account| account.host != "%" || !elsewhere.contains(account.user.as_str()));
    let mut users: Vec<_> = by_api
        .chain(by_sql.map(|account| sql_user(account, &standing)))
        .collect();
    users.sort_by_cached_key(called);
    users
}

/// No two of a project are called the same.
fn called(user: &rest::User) -> String {
    if user.host == "%" && !user.name.contains('@') {
        user.name.clone()
    } else {
        format!("{}@{}", user.name, user.host)
    }
}
