"""Update rules that torch does not have, or not in the form that is needed."""
