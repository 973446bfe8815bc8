"""Pure tensor formulas of the methods. No parameters, no config objects, no reduction.

Legend: G groups (prompts), N samples of one prompt, B sequences, A action positions, T token positions.
Masks are named for what they keep: ``is_action`` [B, A] is 1 where the token was produced by the policy.
"""
