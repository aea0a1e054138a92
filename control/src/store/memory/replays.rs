//! `store::replays` in memory.

use super::*;

#[async_trait]
impl Replays for MemoryStore {
    async fn begin_replay(&self, new: &NewReplay) -> Result<Replay, StoreError> {
        let mut inner = self.lock_in_term()?;
        inner
            .replays
            .retain(|id, kept| id.key_hash != new.id.key_hash || kept.new.now >= new.expired);
        let kept = inner.replays.keys().filter(|id| id.key_hash == new.id.key_hash).count();
        if let Some(kept) = inner.replays.get_mut(&new.id) {
            if kept.new.request_hash != new.request_hash {
                return Ok(Replay::Other);
            }
            if let Some(answer) = &kept.answer {
                return Ok(Replay::Done(answer.clone()));
            }
            if kept.new.lease > new.now {
                return Ok(Replay::InProgress);
            }
            kept.new.lease = new.lease;
            return Ok(Replay::Begun);
        }
        if kept >= new.rows_max as usize {
            return Ok(Replay::Full);
        }
        let (new, answer) = (new.clone(), None);
        inner.replays.insert(new.id.clone(), KeptReplay { new, answer });
        Ok(Replay::Begun)
    }

    async fn extend_replay(&self, id: &ReplayId, lease: EpochMs) -> Result<(), StoreError> {
        if let Some(kept) = self.lock_in_term()?.replays.get_mut(id) {
            kept.new.lease = lease;
        }
        Ok(())
    }

    async fn finish_replay(&self, id: &ReplayId, answer: &Answer) -> Result<(), StoreError> {
        if let Some(kept) = self.lock_in_term()?.replays.get_mut(id) {
            kept.answer = Some(answer.clone());
        }
        Ok(())
    }

    async fn drop_replay(&self, id: &ReplayId) -> Result<(), StoreError> {
        self.lock_in_term()?
            .replays
            .retain(|other, kept| other != id || kept.answer.is_some());
        Ok(())
    }

    async fn prune_replays(&self, expired: EpochMs) -> Result<u64, StoreError> {
        let mut inner = self.lock_in_term()?;
        let rows = inner.replays.len();
        inner.replays.retain(|_, kept| kept.new.now >= expired);
        Ok((rows - inner.replays.len()) as u64)
    }
}
