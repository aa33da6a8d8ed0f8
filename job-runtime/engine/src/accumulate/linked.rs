//! Accumulators of groups that come and go one by one, as sessions do, and not all at once with their window.
//!
//! A group that has gone leaves its cells, and what DISTINCT aggregates saw of it, behind as waste, until the groups that
//! live are copied out. So forgetting one costs nothing, and the waste is bounded by whoever counts it
//! ([`Accumulators::weight`]).

use super::{AccumulateError, Accumulators, AggregateSpec};

impl Accumulators {
    /// No groups yet. What DISTINCT aggregates have seen of one group can be found without looking at the others.
    #[must_use]
    pub(crate) fn linked(specs: &[AggregateSpec]) -> Self {
        let mut new = Self::new(specs);
        for (_, members) in new.members() {
            members.link();
        }
        new
    }

    /// Adds what group `from` has to group `into`.
    ///
    /// # Errors
    /// A decimal sum beyond 128 bits.
    pub(crate) fn absorb_group(&mut self, into: u32, from: u32) -> Result<(), AccumulateError> {
        let mut cell = Vec::new();
        for column in &mut self.columns {
            let Some(members) = &column.members else {
                cell.clear();
                column.cells.encode(from as usize, &mut cell);
                column.merge_cell(into, &cell, &mut 0)?;
                continue;
            };
            let mut values: Vec<Box<[u8]>> = members.of_group(from).map(|(_, value)| value.into()).collect();
            // In the order in which they were seen.
            values.reverse();
            for value in &values {
                column.add_member(into, value)?;
            }
        }
        Ok(())
    }

    /// Frees what texts group `id` keeps; it must not be asked for any more.
    pub(crate) fn forget_group(&mut self, id: u32) {
        for column in &mut self.columns {
            column.cells.reset(id as usize);
        }
    }

    /// What a snapshot holds of group `id` besides its row: the position of a DISTINCT aggregate, and a value.
    pub(crate) fn saved_members(&self, id: u32) -> impl Iterator<Item = (usize, &[u8])> {
        let members = self.columns.iter().enumerate().filter_map(|(at, column)| Some((at, column.members.as_ref()?)));
        members.flat_map(move |(at, members)| {
            members.of_group(id).filter_map(move |(saved, value)| saved.then_some((at, value)))
        })
    }

    /// How many cells and values group `id` has.
    pub(crate) fn weight_of(&self, id: u32) -> usize {
        let members = self.columns.iter().filter_map(|column| column.members.as_ref());
        1 + members.map(|members| members.of_group(id).count()).sum::<usize>()
    }

    /// The same of all groups, those that have gone among them.
    pub(crate) fn weight(&self) -> usize {
        let members = self.columns.iter().filter_map(|column| column.members.as_ref());
        self.groups + members.map(super::Members::len).sum::<usize>()
    }

    /// Copies the groups `live`, whose ids become their places in it, into `empty`.
    ///
    /// # Errors
    /// None that did not come up before.
    pub(crate) fn copied(&mut self, mut empty: Self, live: &[u32]) -> Result<Self, AccumulateError> {
        let mut place: Vec<Option<u32>> = vec![None; self.groups];
        empty.grow(live.len());
        let mut value = Vec::new();
        for (new, old) in (0..).zip(live) {
            place[*old as usize] = Some(new);
            value.clear();
            self.encode_state(*old, &mut value);
            empty.decode_state(new, &value)?;
        }
        for (position, members) in self.members() {
            for (id, value) in members.saved() {
                if let Some(new) = place[id as usize] {
                    empty.restore_member(position, new, value)?;
                }
            }
        }
        for (_, members) in empty.members() {
            members.mark_saved();
        }
        for (position, members) in self.members() {
            for (id, value) in members.unsaved() {
                if let Some(new) = place[id as usize] {
                    empty.restore_member(position, new, value)?;
                }
            }
        }
        Ok(empty)
    }
}

#[cfg(test)]
mod tests {
    use freshet_plan::{Aggregate, AggregateFunction, DataType};

    use super::*;

    fn specs() -> Vec<AggregateSpec> {
        let aggregate = |distinct: bool| Aggregate {
            name: "n".into(),
            function: AggregateFunction::Count,
            argument: distinct.then_some(0),
            argument_type: distinct.then_some(DataType::BigInt),
            distinct,
            filter: None,
            data_type: DataType::BigInt,
        };
        [false, true].map(|distinct| AggregateSpec::new(&aggregate(distinct)).expect("a count")).to_vec()
    }

    fn values(accumulators: &Accumulators, id: u32) -> Vec<Vec<u8>> {
        let mut values: Vec<_> = accumulators.saved_members(id).map(|(_, value)| value.to_vec()).collect();
        values.sort();
        values
    }

    #[test]
    fn groups_are_joined_and_the_living_copied() {
        let value = |n: i64| {
            let mut bytes = Vec::new();
            let array: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(vec![n]));
            let view = crate::column::ColumnView::of(&array).expect("numbers");
            crate::group::key::put_value(&view, 0, &mut bytes);
            bytes
        };
        let mut accumulators = Accumulators::linked(&specs());
        accumulators.grow(3);
        for (id, n) in [(0, 1), (1, 1), (1, 2), (2, 7)] {
            accumulators.restore_member(1, id, &value(n)).expect("a value");
        }
        for id in 0..3 {
            accumulators.decode_state(id, &[3 + id as u8]).expect("a count");
        }
        accumulators.absorb_group(0, 1).expect("counts");
        assert_eq!(accumulators.weight_of(0), 3);
        assert_eq!(accumulators.weight(), 3 + 5);
        assert_eq!(values(&accumulators, 0), Vec::<Vec<u8>>::new(), "no snapshot holds any");
        accumulators.members().for_each(|(_, members)| members.mark_saved());
        accumulators.restore_member(1, 2, &value(8)).expect("a value");
        let mut copy = accumulators.copied(Accumulators::linked(&specs()), &[2, 0]).expect("counts");
        assert_eq!(copy.weight(), 2 + 4);
        assert_eq!(values(&copy, 1), [value(1), value(2)]);
        assert_eq!(values(&copy, 0), [value(7)], "8 is in no snapshot");
        assert_eq!(copy.members().map(|(_, members)| members.unsaved().count()).sum::<usize>(), 1);
        let counts: Vec<String> =
            copy.finish(&[1, 0]).expect("counts").iter().map(|array| format!("{array:?}")).collect();
        assert!(counts[0].contains("7,") && counts[0].contains("5,"), "{counts:?}");
        assert!(counts[1].matches("2,").count() == 2, "{counts:?}");
    }
}
