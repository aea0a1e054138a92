//! Answers that any request may get before or after its handler, put into the document of every one.

use utoipa::openapi::{ContentBuilder, OpenApi, Ref, Response, ResponseBuilder, path::Operation};

/// Whatever is asked for.
const ALL: [(&str, &str); 7] = [
    ("400", "The query, a header or the body is wrong."),
    ("401", "The API key is missing, unknown or expired."),
    ("403", "The API key's scope does not allow this."),
    (
        "429",
        "API keys of this project have asked for too much, or this one has used too many `Idempotency-Key`s; `Retry-After` says when to ask again.",
    ),
    ("500", "The control plane failed; its log says why."),
    (
        "503",
        "No control plane leads at the moment, or it does not reach its state: try again.",
    ),
    ("507", "No space is left where the control plane keeps its state."),
];
/// Where something may be changed.
const CHANGES: [(&str, &str); 5] = [
    ("408", "The body was not there within 15 seconds."),
    ("409", "The request with this `Idempotency-Key` is being done."),
    ("413", "The body is longer than 64 KiB."),
    ("415", "The body is not `application/json`."),
    ("422", "This `Idempotency-Key` belongs to another request."),
];

/// The document with them; what a route says of a status itself stays.
pub(super) fn told(mut document: OpenApi) -> OpenApi {
    for path in document.paths.paths.values_mut() {
        let reads = [&mut path.get, &mut path.head];
        reads.into_iter().flatten().for_each(|operation| add(operation, &ALL));
        let changes = [&mut path.post, &mut path.put, &mut path.patch, &mut path.delete];
        for operation in changes.into_iter().flatten() {
            add(operation, &ALL);
            add(operation, &CHANGES);
        }
    }
    document
}

fn add(operation: &mut Operation, answers: &[(&str, &str)]) {
    for (status, description) in answers {
        let known = operation.responses.responses.entry((*status).to_owned());
        known.or_insert_with(|| problem(description).into());
    }
}

fn problem(description: &str) -> Response {
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", body)
        .build()
}
