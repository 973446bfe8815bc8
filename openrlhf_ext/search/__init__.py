"""Search guided by a value network: a policy in the engines, values from Ray workers, results as an evaluation's."""
