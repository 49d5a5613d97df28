"""What an operator may do: the registry, the policy, the plan, the desk."""
