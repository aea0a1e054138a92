//! Making, changing and removing projects: the order in which store, driver, running compute and gateways hear of it.
//! REST is one caller of this; it knows nothing of HTTP.

use std::{collections::BTreeMap, sync::Arc};

use control_api::rest::OperationKind;
use tokio::sync::Mutex;

use crate::{
    activity::Activity,
    clock,
    compute::{ACKNOWLEDGE_PATIENCE, Computes, WakeError},
    driver::{Driver, DriverError},
    name::{DatabaseName, ProjectId, UserName},
    publish::Publisher,
    secret::Verifiers,
    store::{Access, EpochMs, Expected, NewProject, NewUser, Options, ProjectRecord, Store, StoreError, WholeProject},
    usage::Usage,
};

#[cfg(test)]
mod tests;

/// See the head of this file.
pub(crate) struct Projects {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) computes: Arc<Computes>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) usage: Arc<Usage>,
    /// Held from the store to the gateways, so that these are told in the order in which it is kept.
    pub(crate) changing_options: Mutex<()>,
}

/// What another control plane had begun and that is not a compute's. To be read before anybody is served: what this one
/// begins itself looks the same in the store.
#[derive(Debug, Default)]
pub(crate) struct Interrupted {
    creates: Vec<ProjectId>,
    deletes: Vec<ProjectRecord>,
}

/// Why a change was not made, or not everywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was changed.
    #[error("the project's files cannot be made: {0}")]
    Prepare(DriverError),
    /// It is written down and its next start brings it.
    #[error("it is kept, but the running compute has not taken it yet: {0}")]
    Apply(DriverError),
    #[error("the project's compute was not stopped: {0}")]
    Suspend(WakeError),
    /// Deleting goes on when control starts again.
    #[error("the project's files cannot be removed: {0}")]
    Remove(DriverError),
}

impl Projects {
    /// Makes a project with all that its first start needs. Not cancel-safe in between: a project that is written down
    /// and not prepared is prepared by its first start.
    pub(crate) async fn create(&self, new: NewProject) -> Result<WholeProject, ChangeError> {
        // First, so that nothing has to be taken back where computes cannot run at all.
        self.driver.server().await.map_err(ChangeError::Prepare)?;
        let whole = self.store.create_project(new).await?;
        let id = whole.record.id.clone();
        if let Err(error) = self.driver.prepare(&whole.record).await {
            tracing::warn!(project = %id, %error, "a project could not be prepared and is taken back");
            let reason = error.to_string();
            let ended = self
                .store
                .end_operation(&id, OperationKind::Create, Some(&reason), clock::now());
            ended.await?;
            self.store.begin_delete(&id, None).await?;
            self.finish_delete(&whole.record).await?;
            return Err(ChangeError::Prepare(error));
        }
        // It is made, whether or not the store can take this: gateways are told, and the next control plane ends what is open.
        let ended = self.store.end_operation(&id, OperationKind::Create, None, clock::now());
        if let Err(error) = ended.await {
            tracing::warn!(project = %id, %error, "a project is made, and its making is still said to go on");
        }
        let version = self.publisher.put(whole.clone());
        self.publisher.acknowledged(version, ACKNOWLEDGE_PATIENCE).await;
        tracing::info!(project = %id, "project created");
        Ok(whole)
    }

    /// Hides the project, where it is still as it was read, stops its compute and removes its data.
    pub(crate) async fn delete(&self, read: &ProjectRecord) -> Result<(), ChangeError> {
        let id = &read.id;
        let project = self.store.begin_delete(id, Some(read)).await?;
        let suspended = self.computes.suspend(id, "the project is being deleted").await;
        let version = self.publisher.remove(id);
        match suspended {
            Ok(()) | Err(WakeError::NotFound) => {}
            Err(error) => return Err(ChangeError::Suspend(error)),
        }
        self.publisher.acknowledged(version, ACKNOWLEDGE_PATIENCE).await;
        self.finish_delete(&project).await?;
        tracing::info!(project = %id, "project deleted");
        Ok(())
    }

    async fn finish_delete(&self, project: &ProjectRecord) -> Result<(), ChangeError> {
        self.step(&project.id, OperationKind::Delete, "removing", None).await?;
        self.driver.remove(project).await.map_err(ChangeError::Remove)?;
        Ok(self.store.finish_delete(&project.id).await?)
    }

    async fn step(
        &self,
        id: &ProjectId,
        kind: OperationKind,
        step: &str,
        error: Option<&DriverError>,
    ) -> Result<(), StoreError> {
        let error = error.map(ToString::to_string);
        self.store
            .step_operation(id, kind, step, error.as_deref(), clock::now())
            .await
    }

    /// To be asked before anybody is served.
    pub(crate) async fn interrupted(&self) -> Result<Interrupted, StoreError> {
        let mut open = self.store.open_operations().await?;
        open.retain(|operation| operation.kind == OperationKind::Create);
        Ok(Interrupted {
            creates: open.into_iter().map(|operation| operation.project).collect(),
            deletes: self.store.deleting().await?,
        })
    }

    /// Goes on with what was interrupted.
    pub(crate) async fn resume(&self, interrupted: Interrupted) -> Result<(), StoreError> {
        self.resume_deletes(&interrupted.deletes).await?;
        for id in &interrupted.creates {
            let project = match self.store.project(id).await {
                Ok(project) => project,
                // Being deleted since, or gone.
                Err(StoreError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let prepared = self.driver.prepare(&project).await;
            let error = prepared.err().map(|error| error.to_string());
            // Its first start prepares it then.
            self.store
                .end_operation(id, OperationKind::Create, error.as_deref(), clock::now())
                .await?;
            tracing::info!(project = %id, error, "a project that was being made is finished");
        }
        Ok(())
    }

    /// Goes on with what was being deleted when control ended.
    async fn resume_deletes(&self, deletes: &[ProjectRecord]) -> Result<(), StoreError> {
        for project in deletes {
            let stopped = self.driver.stop(&project.id).await.map_err(ChangeError::Remove);
            let finished = match stopped {
                Ok(_) => self.finish_delete(project).await,
                Err(error) => Err(error),
            };
            if let Err(error) = finished {
                if let ChangeError::Remove(error) = &error {
                    self.step(&project.id, OperationKind::Delete, "removing", Some(error))
                        .await?;
                }
                tracing::error!(project = %project.id, %error, "a deleted project is not gone yet");
            }
        }
        Ok(())
    }

    /// From now on, but for its size: that of the next start. Where it is still as it was read.
    pub(crate) async fn set_options(&self, read: &ProjectRecord, options: &Options) -> Result<(), ChangeError> {
        let version = {
            let _turn = self.changing_options.lock().await;
            self.store.set_options(read, options).await?;
            self.publisher.set_options(&read.id, options)
        };
        self.publisher.acknowledged(version, ACKNOWLEDGE_PATIENCE).await;
        Ok(())
    }

    pub(crate) async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<(), ChangeError> {
        let access = self.store.add_user(id, user, now).await?;
        self.changed(id, access).await
    }

    pub(crate) async fn set_password(
        &self,
        id: &ProjectId,
        name: &UserName,
        verifiers: &Verifiers,
        expected: Expected,
    ) -> Result<(), ChangeError> {
        let access = self.store.set_verifiers(id, name, verifiers, expected).await?;
        self.changed(id, access).await
    }

    /// The first password that REST gives to a user made in SQL.
    pub(crate) async fn adopt_user(
        &self,
        id: &ProjectId,
        user: NewUser,
        now: EpochMs,
        expected: Expected,
    ) -> Result<(), ChangeError> {
        let access = self.store.adopt_user(id, user, now, expected).await?;
        self.changed(id, access).await
    }

    /// Removes a user made in SQL.
    pub(crate) async fn remove_sql_user(
        &self,
        id: &ProjectId,
        name: &UserName,
        expected: Expected,
    ) -> Result<(), ChangeError> {
        let access = self.store.remove_sql_user(id, name, expected).await?;
        self.changed(id, access).await
    }

    /// Those without a value are unset. The caller has checked them.
    pub(crate) async fn set_settings(
        &self,
        id: &ProjectId,
        changes: &BTreeMap<String, Option<String>>,
        expected: Expected,
    ) -> Result<(), ChangeError> {
        if changes.is_empty() {
            return Ok(());
        }
        let access = self.store.set_settings(id, changes, expected).await?;
        self.changed(id, access).await
    }

    pub(crate) async fn remove_user(
        &self,
        id: &ProjectId,
        name: &UserName,
        expected: Expected,
    ) -> Result<(), ChangeError> {
        let access = self.store.remove_user(id, name, expected).await?;
        self.changed(id, access).await
    }

    pub(crate) async fn add_database(&self, id: &ProjectId, name: &DatabaseName) -> Result<(), ChangeError> {
        let access = self.store.add_database(id, name).await?;
        self.changed(id, access).await
    }

    pub(crate) async fn remove_database(
        &self,
        id: &ProjectId,
        name: &DatabaseName,
        expected: Expected,
    ) -> Result<(), ChangeError> {
        let access = self.store.remove_database(id, name, expected).await?;
        self.changed(id, access).await
    }

    /// The compute first: a gateway must not let in whom the compute would refuse.
    async fn changed(&self, id: &ProjectId, access: Access) -> Result<(), ChangeError> {
        let applied = self.computes.apply(id).await;
        let version = self.publisher.set_access(id, access);
        self.publisher.acknowledged(version, ACKNOWLEDGE_PATIENCE).await;
        applied.map_err(ChangeError::Apply)
    }
}
