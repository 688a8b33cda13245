"""The product: `build`, `lock`, `plan` and `audit`, each a line of work through the rooms below.

Nothing here prints or exits: results are values, and what a person waiting should hear goes to a `Progress`.
"""
