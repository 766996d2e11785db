"""The errors, where AWS's toolkit looks for them."""

from smdistributed.modelparallel.torch.state import SMPConfigError, SMPError, SMPValidationError

__all__ = ["SMPConfigError", "SMPError", "SMPValidationError"]
