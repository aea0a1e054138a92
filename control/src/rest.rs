//! REST: `/api/v1` for people and scripts, `/openapi.json` made from its handlers, `/metrics` and health for machines.
//! Handlers check what came in and turn results into bodies; what is done is in `projects.rs` and `compute.rs`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    activity::Activity,
    compute::Computes,
    config::{Prices, UidRange},
    metrics::Metrics,
    projects::Projects,
    publish::Publisher,
    secret::hex,
    store::StoreError,
};

mod audit;
mod auth;
pub(crate) mod change;
mod common;
mod compute;
mod databases;
mod decide;
mod deleted;
mod health;
mod keys;
mod operations;
mod options;
mod pace;
mod page;
mod problem;
mod projects;
mod settings;
mod statement;
mod tag;
#[cfg(test)]
mod tests;
mod usage;
mod users;
mod wakes;

use pace::Pace;
pub(crate) use problem::{Problem, faulty, internal, whole_body};

/// The largest body is a project with names and a password.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) projects: Arc<Projects>,
    pub(crate) metrics: Metrics,
    pub(crate) default_size_cu: f64,
    /// Where a project does not say when it falls asleep; `None`: never.
    pub(crate) suspend_after: Option<Duration>,
    /// What statements reckon by.
    pub(crate) prices: Arc<Prices>,
    pub(crate) uids: Option<UidRange>,
    /// Owns changes that have begun: they are finished even when the client goes away.
    pub(crate) tasks: TaskTracker,
    /// Fires when another control plane leads: a change that has begun is left to it.
    pub(crate) over: CancellationToken,
    /// What keys of one project have asked for.
    pub(crate) pace: Arc<Pace>,
    /// Mixed into entity tags that depend on a secret; new at each start, which only makes the caller read again.
    pub(crate) tag_secret: Arc<[u8; 32]>,
}

/// Of one request: in the answer's `X-Request-Id` and in the audit log.
#[derive(Clone)]
struct RequestId(String);

impl Rest {
    fn computes(&self) -> &Arc<Computes> {
        &self.projects.computes
    }

    fn publisher(&self) -> &Publisher {
        &self.projects.publisher
    }

    fn activity(&self) -> &Activity {
        &self.projects.activity
    }

    /// Runs a change to its end whatever happens to the request.
    async fn finish<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Problem> {
        match self
            .tasks
            .spawn(self.over.clone().run_until_cancelled_owned(change))
            .await
        {
            Ok(Some(result)) => result.map_err(Into::into),
            Ok(None) => Err(StoreError::NotLeader.into()),
            Err(error) => Err(problem::internal(&error)),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Selkie control plane",
        description = "Projects, their users, databases and computes. Errors are `application/problem+json` with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&BearerKey),
    security(("api_key" = [])),
    components(schemas(control_api::rest::Problem))
)]
struct Document;

struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// The whole HTTP side, ready to be served.
pub(crate) fn router(rest: Rest) -> Router {
    let api = OpenApiRouter::new()
        .routes(routes!(projects::create, projects::list))
        .routes(routes!(projects::show, options::change, projects::delete))
        .routes(routes!(users::create, users::list))
        .routes(routes!(users::show, users::change, users::delete))
        .routes(routes!(databases::create, databases::list))
        .routes(routes!(databases::show, databases::delete))
        .routes(routes!(settings::list, settings::replace, settings::change))
        .routes(routes!(settings::show, settings::set, settings::unset))
        .routes(routes!(audit::of_project))
        .routes(routes!(audit::list))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::show, keys::change, keys::delete))
        .routes(routes!(compute::show))
        .routes(routes!(compute::suspend))
        .routes(routes!(compute::wake))
        .routes(routes!(compute::transitions))
        .routes(routes!(usage::show))
        .routes(routes!(statement::show))
        .routes(routes!(deleted::list))
        .routes(routes!(wakes::list))
        .routes(routes!(operations::list))
        .routes(routes!(operations::show));
    let (api, document) = OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", api)
        .split_for_parts();
    let document = common::told(document);
    // The last is the first that a request meets.
    let api = api
        .route_layer(middleware::from_fn_with_state(rest.clone(), change::write_down))
        .route_layer(middleware::from_fn_with_state(rest.clone(), auth::require_key));
    let open = Router::new()
        .route("/openapi.json", get(async move || Json(document)))
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready));
    api.merge(open)
        .method_not_allowed_fallback(async |method: Method, uri: Uri| problem::method_not_allowed(&method, &uri))
        .fallback(async |uri: Uri| problem::no_such_route(&uri))
        .layer(middleware::from_fn(identify))
        .layer(middleware::from_fn_with_state(rest.clone(), count))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(rest)
}

/// Gives the request a name that the answer and the log share.
async fn identify(mut request: Request, next: Next) -> Response {
    let id = hex(&rand::random::<[u8; 12]>());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Counts by the route's pattern; what matched none is one bucket, so that a scan of paths makes no new series.
async fn count(State(rest): State<Rest>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let standard = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let method = if standard.contains(&method) {
        method.as_str()
    } else {
        "other"
    };
    rest.metrics.rest_request(method, &route, response.status().as_u16());
    response
}
