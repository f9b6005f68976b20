//! Every bound in one place: its value, its unit, its reason and what happens there.
