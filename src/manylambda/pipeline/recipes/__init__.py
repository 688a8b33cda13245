"""`init`: files that bring manylambda into what a team uses already - a recipe each, in a module each."""
