//! Who goes and who comes, of a tier with so many places.

use crate::store::EntityId;

/// Whoever comes stays so long: a day shows what an entity is like, and a burst of an hour costs one move, not two.
pub(super) const STAY_HOURS: i64 = 24;
/// Below this part of the weight that is worth a place, a member goes: between the two nobody moves.
pub(super) const LEAVE_SHARE: f64 = 0.5;
/// To put another one out, a candidate certainly has so many times what the other may have.
pub(super) const CLEAR: f64 = 1.5;

/// Who is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) entity: EntityId,
    pub(super) upper: f64,
    pub(super) since: i64,
}

/// Who may come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) entity: EntityId,
    /// What it had in an hour: it may take a free place.
    pub(super) hour: f64,
    /// What it certainly has on average: it may take another's.
    pub(super) lower: f64,
}

/// Who goes, then who comes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Moves {
    pub(super) leaving: Vec<EntityId>,
    pub(super) coming: Vec<EntityId>,
}

/// Decides, for a tier of `room` places in which a place is worth `weight`.
///
/// The heaviest candidates come first, into free places, then into those of the lightest members that have stayed long
/// enough. A tier with more members than places, as when entities were named, loses its lightest, however short their stay.
pub(super) fn moves(
    room: usize,
    weight: f64,
    hour: i64,
    members: impl Iterator<Item = Member>,
    candidates: impl Iterator<Item = Candidate>,
) -> Moves {
    let mut moves = Moves::default();
    let has_stayed = |member: &Member| hour - member.since >= STAY_HOURS;
    let (gone, mut left): (Vec<Member>, Vec<Member>) =
        members.partition(|member| has_stayed(member) && member.upper < LEAVE_SHARE * weight);
    moves.leaving.extend(gone.iter().map(|member| member.entity));
    left.sort_unstable_by(|a, b| a.upper.total_cmp(&b.upper).then(a.entity.cmp(&b.entity)));
    let too_many = left.len().saturating_sub(room);
    moves.leaving.extend(left.drain(..too_many).map(|member| member.entity));

    let mut candidates: Vec<Candidate> = candidates.collect();
    heaviest_first(&mut candidates, |candidate| candidate.hour);
    let worthy = candidates.partition_point(|candidate| candidate.hour >= weight);
    let free = worthy.min(room - left.len());
    moves.coming.extend(candidates.drain(..free).map(|candidate| candidate.entity));
    if left.len() + free == room {
        heaviest_first(&mut candidates, |candidate| candidate.lower);
        let lightest = left.iter().filter(|member| has_stayed(member));
        // Whoever comes later is lighter, and meets a heavier one.
        for (candidate, member) in candidates.iter().zip(lightest) {
            if candidate.lower < weight || candidate.lower <= CLEAR * member.upper {
                break;
            }
            moves.leaving.push(member.entity);
            moves.coming.push(candidate.entity);
        }
    }
    moves
}

fn heaviest_first(candidates: &mut [Candidate], by: impl Fn(&Candidate) -> f64) {
    candidates.sort_unstable_by(|a, b| by(b).total_cmp(&by(a)).then(a.entity.cmp(&b.entity)));
}
