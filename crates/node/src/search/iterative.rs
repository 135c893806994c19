//! The iterative way: peer after peer is asked by us, along disjoint paths where an answer is in doubt, and the
//! region around a crowded key.

use std::net::SocketAddr;
use std::time::Duration;

use overlay::{Evidence, Lookup, Route};
use wire::p2pp::{Code, Kind, Message, MessageType, Object, PLookup, RLookup};
use wire::{Contact, Key, NodeId, ResourceId, Time};

use super::{
    DISJOINT, FEW_AT_ONCE, For, MAX_HEAPS, MAX_QUESTIONS, Mode, OF_NETWORK, PERSISTENCE, Progress,
    QUESTIONS_OF_DOUBLING, SearchId, WIDTH, Want, hop,
};
use crate::membership::JOINS;
use crate::node::{Alarm, Node};
use crate::region;
use crate::region::Crowd;
use crate::request::Purpose;

impl Node {
    pub(super) fn go_iterative(&mut self, now: Time, id: SearchId, extra: &[Contact]) {
        let is_storm = self.churn().is_storm();
        let reach = self.reach(now);
        let Some(standing) = &mut self.standing else { return };
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        let mut seeds: Vec<Contact> = standing.table.route(&search.toward, WIDTH).contacts().to_vec();
        seeds.extend(extra.iter().filter(|c| c.id != standing.id));
        standing.table.handle_lookup(now, &search.toward);
        let mut config = overlay::lookup::Config::new(standing.metric());
        config.of_network = standing.is_diverse().then_some(OF_NETWORK);
        config.width = search.options.width;
        config.reach = reach;
        // On the way to a part of the region those who crowd in its middle are not asked.
        let middle = match search.purpose {
            For::Region(id) => self.publications.place(id),
            _ => search.is_beside().then_some(search.key),
        };
        let middle = middle.map(|key| (key, key.common_prefix(&search.toward)));
        config.avoid = search.heaps.iter().copied().chain(middle).collect();
        if !config.avoid.is_empty() {
            // They may be all that stands near it in our table.
            seeds = standing.good_contacts(&search.toward);
        }
        config.paths = match (search.options.paths, search.options.mode) {
            (0, Mode::Parallel) => DISJOINT[0],
            // Where the region around the key is searched, one path for each part.
            (0, Mode::Recursive)
                if search.want != Want::Peers
                    && !search.is_beside()
                    && search.renewals == 0
                    && search.heaps.is_empty() =>
            {
                let paths = DISJOINT[search.rounds.min(1)];
                search.rounds += 1;
                // Together the paths hear more than a width of the nearest, each peer on one path only.
                config.width = (WIDTH / paths).max(2);
                config.parallelism = 1;
                paths
            }
            (0, _) => 1,
            (paths, _) => usize::from(paths),
        };
        let places = search.is_for_a_place();
        config.hears_all = places;
        if places && (config.paths == 1 || is_storm) {
            config.parallelism = FEW_AT_ONCE;
        }
        if is_storm && search.purpose == For::Join {
            // Nobody waits for it, and most strangers ask for a proof of our address first.
            (config.parallelism, config.width, config.hears_all) = (FEW_AT_ONCE, JOINS, true);
        }
        if places {
            let size = standing.size_at_most(now, &self.membership.size);
            config.questions = questions_for_a_place(size) * config.paths;
        } else if search.renewals > 0 || !search.heaps.is_empty() {
            // Who is left by now is known, or who is to be passed over: the nearest of the others.
            config.questions = 2 * WIDTH;
        } else if search.want != Want::Peers && !search.is_beside() {
            config.questions = MAX_QUESTIONS.saturating_sub(search.messages) as usize;
        }
        if let (Some(walks), true) = (standing.walks(), places || search.want != Want::Peers) {
            config.exhaustive = true;
            // Who has just come, or lost many, knows others besides its neighbours.
            seeds.extend(standing.table.contacts().iter().map(|e| e.contact));
            if places {
                (config.questions, config.width) = (walks.questions, walks.questions);
            }
        }
        if search.want != Want::Peers {
            // An answer that is doubted is to be confirmed or outdone by others.
            // And at a number whoever answers first may lie: each path says what it finds.
            let is_claimed = search.want == Want::Object(Kind::NUMBER, None);
            let doubted = !search.records.is_empty() || is_claimed;
            config.goal = overlay::Goal::Found(if doubted { config.paths } else { 1 });
        }
        let lookup = Lookup::new(search.toward, standing.id, &seeds, config);
        search.progress = Progress::Iterative(Box::new(lookup));
        self.searches.wakes.cancel(id);
        // Two timeouts: dead entries cost time, and a person waits for at most three seconds.
        let deadline = search.started + self.config.lookup_timeout + Duration::from_millis(400);
        let patience = match search.want {
            Want::Peers => Duration::from_secs(15),
            // Whoever is kept from a record would rather wait than be told that nobody has that name.
            Want::Object(..) if search.is_persistent() => self.config.lookup_timeout,
            Want::Object(..) => Duration::ZERO,
        };
        let deadline = match search.is_beside() {
            true => now + self.config.lookup_timeout,
            false => deadline.max(now + Duration::from_millis(800)) + patience,
        };
        self.timers.set(Alarm::Search(id), deadline);
        if let Want::Object(kind, owner) = search.want
            && !search.options.fresh
            && search.records.is_empty()
            && self.find_at_home(now, id, kind, owner)
        {
            return self.finish(now, id);
        }
        self.advance(now, id);
    }

    /// Asks whoever the search wants to ask now, or ends it.
    fn advance(&mut self, now: Time, id: SearchId) {
        // Where nearness is all that counts, and on one path, nobody need be named to us twice.
        let by_nearness = self.standing.as_ref().is_some_and(|s| s.metric().progress.is_none());
        loop {
            let Some(search) = self.searches.running.get_mut(&id) else { return };
            let most_known = search.most_known();
            let Progress::Iterative(lookup) = &mut search.progress else { return };
            let Some(ask) = lookup.poll_ask(now) else {
                match lookup.poll_timeout() {
                    Some((at, _)) => self.searches.wakes.set(id, at),
                    None => self.searches.wakes.cancel(id),
                }
                if lookup.is_finished() && !self.persist(now, id) {
                    self.finish(now, id);
                }
                return;
            };
            let (key, want, toward) = (search.key, search.want, search.toward);
            let names_once = by_nearness && lookup.paths() == 1;
            search.messages += 1;
            let address = ask.contact.address;
            lookup.expect_by(&ask.contact.id, now + self.link.round_trips.patience(address));
            let known = if names_once { lookup.nearest(most_known) } else { Vec::new() };
            let known: Vec<Contact> = known.into_iter().map(|(contact, _)| contact).collect();
            let to = (address, Some(ask.contact.id));
            let purpose = Purpose::Step(id);
            match want {
                Want::Peers => {
                    let objects = [Object::PLookup(PLookup { count: WIDTH as u8, exact: false, key })];
                    self.ask_knowing(now, to, MessageType::LookupPeer, &objects, &known, purpose);
                }
                Want::Object(kind, owner) => {
                    let lookup = Object::RLookup(RLookup { resource: ResourceId(key), kind, owner });
                    let way = Object::PLookup(PLookup { count: WIDTH as u8, exact: false, key: toward });
                    let objects = [lookup, way];
                    let objects = &objects[..1 + usize::from(toward != key)];
                    self.ask_knowing(now, to, MessageType::LookupObject, objects, &known, purpose);
                }
            }
        }
    }

    /// A search has heard all the nearest peers and found nothing: looks at how they stand, and goes on
    /// where that is suspicious. `false` if there is nothing more to do.
    fn persist(&mut self, now: Time, id: SearchId) -> bool {
        // How peers stand around places for the table, or our own, is nobody's question.
        if self.searches.running.get(&id).is_none_or(|s| s.is_for_the_table()) {
            return false;
        }
        let is_storm = self.churn().is_storm();
        let Some(standing) = self.standing.as_ref().filter(|s| s.walks().is_none()) else { return false };
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let (beside, persistent) = (search.is_beside(), search.is_persistent());
        let places = search.is_for_a_place();
        let Progress::Iterative(lookup) = &mut search.progress else { return false };
        if !beside && search.crowd != Some(Crowd::Dense) {
            // Several paths share a width: more have answered than the outcome names. Around a place fewer
            // have, and who was named counts too.
            let heard = lookup.nearest(usize::MAX).into_iter().filter(|(_, answered)| *answered || places);
            let nearest: Vec<Contact> = heard.map(|(contact, _)| contact).take(WIDTH).collect();
            let most = standing.size_at_most(now, &self.membership.size);
            let (crowd, seen) = region::judge(&standing.metric(), &search.key, &nearest, most);
            (search.crowd, search.seen) = (Some(crowd), seen);
        }
        // Where the nearest stand sparser than most, nearer ones may have been kept from us.
        // Where peers last for minutes a place passes on before it could be lied about for long.
        let looks_odd = matches!(search.crowd, Some(Crowd::Sparse | Crowd::Beside(_)));
        let doubted = persistent || places && looks_odd && !is_storm;
        if !search.records.is_empty() || !doubted {
            return false;
        }
        if let Some(Crowd::Beside(heap)) = search.crowd
            && search.heaps.len() < MAX_HEAPS
        {
            // Its peers name each other, however far from the key: it is asked for again without them.
            search.heaps.push((heap, heap.common_prefix(&search.key)));
            self.go_iterative(now, id, &[]);
            return true;
        }
        if persistent && search.crowd == Some(Crowd::Dense) {
            // Those that crowd there will not tell; the record is kept around them, and older holders stand
            // there too.
            if !std::mem::replace(&mut search.widened, true) {
                // Whoever stands beside the crowd has a crowd for neighbours, and takes the overlay for
                // larger than it is; what it heard of other places is looked at first.
                let sizes = [standing.size(now, &self.membership.size), standing.size_around_us()];
                let mut parts: Vec<Key> = Vec::new();
                for part in sizes.iter().flat_map(|size| region::around(&search.key, *size)) {
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
                search.regions = parts.into_iter().rev().collect();
            }
            let Some(part) = search.regions.pop() else { return false };
            search.toward = part;
            self.go_iterative(now, id, &[]);
            return true;
        }
        if std::mem::replace(&mut search.resumed, true) {
            return false;
        }
        // Our whole table: liars may be all that stands near the key in it.
        let seeds = standing.good_contacts(&search.key);
        lookup.resume(&seeds, PERSISTENCE[usize::from(lookup.paths() > 1)]);
        self.advance(now, id);
        true
    }

    pub(crate) fn handle_step_answer(
        &mut self,
        now: Time,
        id: SearchId,
        remote: SocketAddr,
        message: &Message<'_>,
        rtt: Option<Duration>,
    ) {
        let Some(from) = message.header.responder else { return };
        if message.header.code == Code::BUSY {
            let Some(search) = self.searches.running.get_mut(&id) else { return };
            if let Progress::Iterative(lookup) = &mut search.progress {
                lookup.handle_busy(now, &from);
            }
            return self.advance(now, id);
        }
        let found = self.collect(now, id, message, Some(Contact { id: from, address: remote }));
        let contacts = self.contacts_of_answer(message, WIDTH);
        if let Some(own) = self.node_id().filter(|_| self.is_around_us(id)) {
            self.mention_named(now, own.key(), &from, &contacts);
        }
        let route = match message.header.code {
            Code::OK | Code::NOT_FOUND => Route::Replicas { contacts, includes_self: true },
            _ => Route::Toward(contacts),
        };
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if search.options.trace {
            let decision = if found { "answered" } else { "nearer" };
            search.path.push(hop(from, remote, rtt, decision));
        }
        if let Progress::Iterative(lookup) = &mut search.progress {
            lookup.handle_reply(now, &from, &route, found);
        }
        self.advance(now, id);
    }

    /// What a search that has ended teaches our table: the nearest of all that were named. Liars name only
    /// each other, and would fill the bucket around a key with whoever they named on the way; nearer to
    /// it than honest peers stand only as many of them as their share. Of a search that went on since
    /// only liars seemed to be near nothing is learnt, and of one for a place, which hears all that few
    /// name, only as many as it had to hear.
    pub(super) fn learn_nearest(&mut self, now: Time, lookup: &Lookup, count: usize) {
        for (contact, answered) in lookup.nearest(count) {
            let alive = Evidence::Alive { rtt: None };
            self.learn(now, contact, if answered { alive } else { Evidence::Mentioned });
        }
    }

    /// Whether a search is for our own place. All that it hears of may be neighbours; of others only the
    /// nearest are worth knowing, see [`learn_nearest`](Self::learn_nearest).
    pub(crate) fn is_around_us(&self, id: SearchId) -> bool {
        let own = self.standing.as_ref().map(|s| s.id.key());
        self.searches.running.get(&id).is_some_and(|s| Some(&s.toward) == own)
    }

    pub(crate) fn handle_step_silence(&mut self, now: Time, id: SearchId, asked: Option<NodeId>) {
        let (Some(search), Some(asked)) = (self.searches.running.get_mut(&id), asked) else { return };
        if let Progress::Iterative(lookup) = &mut search.progress {
            lookup.handle_failure(now, &asked);
        }
        self.advance(now, id);
    }

    /// Lets iterative searches lose patience with slow peers.
    pub(crate) fn handle_search_timeouts(&mut self, now: Time) {
        if self.searches.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let mut due = Vec::new();
        for (id, search) in &mut self.searches.running {
            if let Progress::Iterative(lookup) = &mut search.progress
                && lookup.poll_timeout().is_some_and(|(at, _)| at <= now)
            {
                lookup.handle_timeout(now);
                due.push(*id);
            }
        }
        due.into_iter().for_each(|id| self.advance(now, id));
    }

    /// The peers that an answer to a question of a search names: no more than were asked for.
    pub(crate) fn contacts_of_answer(&mut self, message: &Message<'_>, asked: usize) -> Vec<Contact> {
        let mut contacts = crate::membership::contacts_in(message);
        if contacts.len() > asked {
            self.link.count_drop("more peers than asked for");
            contacts.truncate(asked);
        }
        contacts.retain(|c| self.standing.as_ref().is_some_and(|s| s.admits(&c.id)));
        contacts
    }

    /// The person has waited long enough: what was found so far is the result.
    pub(crate) fn handle_search_deadline(&mut self, now: Time, id: SearchId) {
        if self.pause_before_renewal(now, id).is_some() {
            let Some(search) = self.searches.running.get_mut(&id) else { return };
            search.renewals += 1;
            search.toward = search.key;
            return self.go_iterative(now, id, &[]);
        }
        self.finish(now, id);
    }
}

/// How many peers are asked on one path for a place in an overlay of so many.
fn questions_for_a_place(size: u64) -> usize {
    let doublings = u64::BITS - size.saturating_sub(1).leading_zeros();
    let questions = (doublings * QUESTIONS_OF_DOUBLING).min(MAX_QUESTIONS);
    // In the smallest everybody may have to be asked, and some are gone.
    (questions as usize).max(2 * WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_small_overlay_fewer_are_asked_for_a_place_than_in_a_large_one() {
        let asked = [0, 10, 64, 65, 250, 600, u64::MAX].map(questions_for_a_place);
        assert_eq!(asked, [16, 16, 18, 21, 24, 30, 30]);
    }
}
