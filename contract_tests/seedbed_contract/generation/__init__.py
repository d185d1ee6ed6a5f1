"""Values generated from JSON Schemas: valid ones, and values that violate one clause."""
