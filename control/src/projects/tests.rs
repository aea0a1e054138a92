//! What a control plane that begins goes on with: what another one had begun, and nothing that it has begun itself.

use std::time::Duration;

use super::*;
use crate::{
    run,
    store::{operations::Operations, suite},
    testing::Plane,
};

const MINUTE: Duration = Duration::from_secs(60);

/// It serves already while it goes on with what it found: `run.rs` reads that first.
#[tokio::test(start_paused = true)]
async fn create_that_has_just_begun_is_not_taken_for_an_interrupted_one() {
    let plane = Plane::new();
    *plane.driver.prepare_takes.lock().unwrap() = Duration::from_secs(1);
    let found = run::begin(&plane.projects).await.unwrap();
    let goes_on = async {
        while plane.store.open_operations().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        run::prepare(&plane.projects, found).await;
        // The files are being made; who goes on with that would make them beside it.
        assert_eq!(plane.store.open_operations().await.unwrap().len(), 1);
    };
    let (created, ()) = tokio::join!(plane.projects.create(suite::new_project("demo")), goes_on);
    created.unwrap();
    assert_eq!(plane.driver.log(), ["prepare demo"]);
}

#[tokio::test(start_paused = true)]
async fn delete_that_has_just_begun_is_not_taken_for_an_interrupted_one() {
    let (plane, id) = Plane::with_demo().await;
    let found = run::begin(&plane.projects).await.unwrap();
    plane.computes().wake(&id, None, MINUTE).await.unwrap();
    let read = plane.read(&id).await;
    let goes_on = async {
        while plane.store.deleting().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        run::prepare(&plane.projects, found).await;
        assert_eq!(plane.store.deleting().await.unwrap().len(), 1, "it still goes on");
    };
    let (deleted, ()) = tokio::join!(plane.projects.delete(&read), goes_on);
    deleted.unwrap();
    let once = ["start demo 1", "quiesce demo within 10 s", "stop demo", "remove demo"];
    assert_eq!(plane.driver.log(), once);
}

#[tokio::test(start_paused = true)]
async fn what_another_control_plane_had_begun_is_finished() {
    let (plane, id) = Plane::with_demo().await;
    plane.store.begin_delete(&id, None).await.unwrap();
    plane.store.create_project(suite::new_project("other")).await.unwrap();
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    let found = run::begin(&next.projects).await.unwrap();
    run::prepare(&next.projects, found).await;
    assert_eq!(plane.driver.log(), ["stop demo", "remove demo", "prepare other"]);
    assert!(plane.store.open_operations().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn project_is_made_although_the_store_cannot_take_the_end_of_its_making() {
    let plane = Plane::new();
    *plane.driver.prepare_takes.lock().unwrap() = Duration::from_secs(1);
    let full = |is_full: bool| plane.store.is_full.store(is_full, std::sync::atomic::Ordering::Relaxed);
    let fills = async {
        while plane.store.open_operations().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        full(true);
    };
    let (created, ()) = tokio::join!(plane.projects.create(suite::new_project("demo")), fills);
    let id = created.unwrap().record.id;
    assert!(plane.publisher().compute(&id).is_some(), "and gateways know it");
    full(false);
    // The next control plane ends what is said to go on.
    let next = Plane::on(plane.driver.clone(), plane.store.clone());
    let found = run::begin(&next.projects).await.unwrap();
    run::prepare(&next.projects, found).await;
    assert!(plane.store.open_operations().await.unwrap().is_empty());
}
