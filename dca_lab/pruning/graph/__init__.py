"""Who carries which channel: the machinery behind ``prune_channels`` and ``prune_hidden``.

Read it in the order in which it works:

1. ``trace`` records the forward pass; ``prepare`` checks the arguments and makes the working copy.
2. ``labels`` gives every channel a name, and merges names that must be equal (union-find).
3. ``flow`` walks the recorded pass and asks ``rulebook`` what each operation does to names; the rules are in
   ``rules_move`` (view, cat, ...), ``rules_layers`` (convolution, linear, ...), ``rules_pass``, ``rules_mix`` and
   ``rules_product`` (matrix products, attention). ``attention`` opens torch's fused attention modules.
4. ``groups`` collects what lives and dies together, ``importance`` scores it, ``fold`` moves constants into biases.
5. ``surgery`` cuts every parameter by its names; ``rewrite`` compares the result with the original, value by value, and
   corrects sizes that the forward code spells out.

What this is *not*: public. Chapters call ``dca_lab.pruning``.
"""
