"""Update rules, one file each: torch's own, and those that torch does not have in the form that is needed."""
