//! `store::access` in memory.

use super::*;

#[async_trait]
impl Accesses for MemoryStore {
    async fn access(&self, id: &ProjectId) -> Result<Access, StoreError> {
        self.with(id, |kept| Ok(kept.access()))
    }

    async fn add_user(&self, id: &ProjectId, user: NewUser, now: EpochMs) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            let users = &mut kept.whole.access.users;
            if users.iter().any(|other| other.name == user.name) {
                return Err(StoreError::Exists("user"));
            }
            let record = UserRecord {
                name: user.name.clone(),
                verifiers: user.verifiers,
                admin: user.admin,
                created: now,
                known: false,
                had: false,
                by_sql: false,
            };
            users.push(record);
            users.sort_by(|one, other| one.name.cmp(&other.name));
            kept.must_fit(|access| access.users.retain(|other| other.name != user.name))?;
            Ok(kept.touch_user(&user.name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn set_verifiers(
        &self,
        id: &ProjectId,
        name: &UserName,
        verifiers: &Verifiers,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let user = kept.whole.access.users.iter_mut().find(|user| user.name == *name);
            let user = user.ok_or(StoreError::NotFound("user"))?;
            user.verifiers = verifiers.clone();
            user.known = false;
            Ok(kept.touch_user(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn adopt_user(
        &self,
        id: &ProjectId,
        user: NewUser,
        now: EpochMs,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let users = &mut kept.whole.access.users;
            if users.iter().any(|known| known.name == user.name) {
                return Err(StoreError::Exists("user"));
            }
            users.push(UserRecord {
                name: user.name.clone(),
                verifiers: user.verifiers.clone(),
                admin: user.admin,
                created: now,
                known: false,
                had: true,
                by_sql: true,
            });
            users.sort_by(|one, other| one.name.cmp(&other.name));
            kept.must_fit(|access| access.users.retain(|other| other.name != user.name))?;
            Ok(kept.touch_user(&user.name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn remove_sql_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            Ok(kept.touch_user(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn remove_user(&self, id: &ProjectId, name: &UserName, expected: Expected) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let users = &mut kept.whole.access.users;
            let at = users
                .iter()
                .position(|user| user.name == *name)
                .ok_or(StoreError::NotFound("user"))?;
            users.remove(at);
            Ok(kept.touch_user(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn add_database(&self, id: &ProjectId, name: &DatabaseName) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            let databases = &mut kept.whole.access.databases;
            if databases.contains(name) {
                return Err(StoreError::Exists("database"));
            }
            databases.push(name.clone());
            databases.sort();
            kept.must_fit(|access| access.databases.retain(|other| other != name))?;
            Ok(kept.touch_database(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn set_settings(
        &self,
        id: &ProjectId,
        changes: &BTreeMap<String, Option<String>>,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            kept.whole.access.revision += 1;
            for (name, value) in changes {
                kept.pending_settings.insert(name.clone(), kept.whole.access.revision);
                match value {
                    Some(value) => kept.whole.access.settings.insert(name.clone(), value.clone()),
                    None => kept.whole.access.settings.remove(name),
                };
            }
            Ok(kept.access())
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn remove_database(
        &self,
        id: &ProjectId,
        name: &DatabaseName,
        expected: Expected,
    ) -> Result<Access, StoreError> {
        let result = self.change(id, |kept| {
            kept.expect(expected)?;
            let databases = &mut kept.whole.access.databases;
            let at = databases
                .iter()
                .position(|other| other == name)
                .ok_or(StoreError::NotFound("database"))?;
            databases.remove(at);
            Ok(kept.touch_database(name))
        })?;
        self.apply_begun(id);
        Ok(result)
    }

    async fn pending(&self, id: &ProjectId) -> Result<(Access, Touched), StoreError> {
        self.with(id, |kept| {
            let touched = Touched {
                users: kept.pending_users.keys().cloned().collect(),
                databases: kept.pending_databases.keys().cloned().collect(),
                settings: kept.pending_settings.keys().cloned().collect(),
            };
            Ok((kept.access(), touched))
        })
    }

    async fn applied(&self, id: &ProjectId, revision: i64) -> Result<(), StoreError> {
        let none_left = self.change(id, |kept| {
            let pending = kept.pending_users.clone();
            kept.whole.access.revision += i64::from(pending.values().any(|pending| *pending <= revision));
            for user in &mut kept.whole.access.users {
                user.known |= pending.get(&user.name).is_some_and(|pending| *pending <= revision);
                user.had |= user.known;
            }
            kept.pending_users.retain(|_, pending| *pending > revision);
            kept.pending_databases.retain(|_, pending| *pending > revision);
            kept.pending_settings.retain(|_, pending| *pending > revision);
            Ok(kept.pending_users.is_empty() && kept.pending_databases.is_empty() && kept.pending_settings.is_empty())
        })?;
        if none_left {
            self.lock().end(id, OperationKind::Apply, None, clock::now());
        }
        Ok(())
    }

    async fn set_observed(&self, id: &ProjectId, observed: &Observed) -> Result<Access, StoreError> {
        self.change(id, |kept| {
            let before_all = (kept.whole.access.clone(), kept.seen.clone());
            let users = kept.whole.access.users.len();
            let mut arrived = false;
            let anywhere = Anywhere::of(&observed.accounts);
            kept.whole.access.users.retain_mut(|user| {
                let fate = anywhere.fate(user);
                user.known |= fate == Fate::Arrived;
                user.had |= user.known;
                arrived |= fate == Fate::Arrived;
                fate != Fate::Gone
            });
            let changed = arrived || kept.whole.access.users.len() < users;
            let seen = kept.seen.clone();
            let exists = |name: &DatabaseName| observed.databases.iter().any(|seen| seen == name.as_str());
            let databases = &mut kept.whole.access.databases;
            let before = databases.len();
            databases.retain(|name| exists(name) || !kept.seen.contains(name));
            let dropped = databases.len() < before;
            kept.seen = databases.iter().filter(|name| exists(name)).cloned().collect();
            if let Err(too_large) = weigh(&kept.access(), Some(observed)) {
                (kept.whole.access, kept.seen) = before_all;
                return Err(too_large.into());
            }
            kept.whole.access.revision += i64::from(changed || dropped || kept.seen != seen);
            kept.whole.observed = Some(observed.clone());
            Ok(kept.access())
        })
    }
}
