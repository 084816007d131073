//! Lower tiers: see the files beside.
