//! What only Gia does.
