"""The formulas in plain torch, as one reads them in a paper, in the form that holds. They know no operator.

They are the specification that every backend is held against, what second derivatives are taken through, and the whole
of the reference backend.
"""
