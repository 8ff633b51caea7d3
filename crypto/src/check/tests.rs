//! Every step fails alone, with its own denial.
