"""The functions as modules: a module holds the keywords, and what `forward` is given counts before them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from .functional import (
    ElboTerms,
    bernoulli_log_prob,
    elbo,
    gaussian_log_prob,
    kl_normal,
    kl_standard_normal,
    linear_bernoulli_log_prob,
    linear_gaussian_log_prob,
    linear_multinomial_log_prob,
    rsample,
    rsample_kl,
)

__all__ = [
    "BernoulliLogProb",
    "ELBOLoss",
    "GaussianHead",
    "GaussianLogProb",
    "KLDivergence",
    "LinearBernoulli",
    "LinearGaussian",
    "LinearMultinomial",
    "Reparameterize",
]


class _Function(nn.Module):
    """`function` with keywords that stay. They are attributes, and may be set.

    torch.compile makes a graph for each number that an attribute has: there, what is annealed is a 0-d tensor.

    Raises:
        TypeError: the function has no keyword of that name.
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(self, **keywords: Any) -> None:
        super().__init__()
        self.names = _given(type(self).function, keywords)
        for name, value in keywords.items():
            setattr(self, name, value)

    def keywords(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.names}

    def forward(self, *operands: Tensor, **keywords: Any) -> Any:
        return type(self).function(*operands, **{**self.keywords(), **keywords})

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.keywords().items())


def _given(function: Callable[..., Any], keywords: dict[str, Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.default is not p.empty]
    for name in keywords:
        if name not in known:
            raise TypeError(f"{name} is no keyword of {function.__name__}, which has {', '.join(known)}")
    return tuple(keywords)


class Reparameterize(_Function):
    """`fastvae.rsample` as a module: `Reparameterize(**keywords)(mean, log_var)` is z, a sample in eval mode too.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", eq. 9.
    """

    function = staticmethod(rsample)


class KLDivergence(_Function):
    """`fastvae.kl_standard_normal` of (mean, log_var), `fastvae.kl_normal` of (mean_q, log_var_q, mean_p, log_var_p).

    In nats, [batch].

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix B.
    """

    function = staticmethod(kl_standard_normal)

    def forward(self, *operands: Tensor, **keywords: Any) -> Tensor:
        divergence = kl_normal if len(operands) > 2 else kl_standard_normal
        return divergence(*operands, **{**self.keywords(), **keywords})


class BernoulliLogProb(_Function):
    """`fastvae.bernoulli_log_prob` as a module: of (x, logits), in nats, [batch].

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.1.
    """

    function = staticmethod(bernoulli_log_prob)


class GaussianLogProb(_Function):
    """`fastvae.gaussian_log_prob` as a module: of (x, mean, log_var), in nats, [batch].

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.2.
    """

    function = staticmethod(gaussian_log_prob)


class ELBOLoss(_Function):
    """The `loss` of `fastvae.elbo`: of (log_px, kl), in nats, 0-d unless `reduction="none"`.

    `terms` gives the rest of it.

    Reference:
        Higgins et al. 2017, "beta-VAE: Learning basic visual concepts with a constrained variational framework", eq. 4.
    """

    function = staticmethod(elbo)

    def terms(self, log_px: Tensor, kl: Tensor, **keywords: Any) -> ElboTerms:
        return elbo(log_px, kl, **{**self.keywords(), **keywords})

    def forward(self, *operands: Tensor, **keywords: Any) -> Tensor:
        return self.terms(*operands, **keywords).loss


class GaussianHead(_Function):
    """The end of an encoder: a linear layer to mean and log-variance, then `fastvae.rsample_kl`, its keywords included.

    Args:
        in_features: size of the encoder's last layer.
        latents: size L of z.
        bias, device, dtype: of the linear layer, which is `linear`; its output is packed, the mean first.

    Shape:
        Of h [*, in_features] it gives z [*, L] and the KL in nats, [batch].

    Raises:
        TypeError: `rsample_kl` has no keyword of that name.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", eq. 9 and appendix B.
    """

    function = staticmethod(rsample_kl)

    def __init__(
        self,
        in_features: int,
        latents: int,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.linear = nn.Linear(in_features, 2 * latents, bias, device, dtype)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and what `scale_as` says; both [*, L]."""
        mean, scale = self.linear(h).chunk(2, dim=-1)
        return mean, scale

    def forward(self, h: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        z, kl = rsample_kl(*self.moments(h), **{**self.keywords(), **keywords})
        return z, kl


class _LinearLogProb(_Function):
    """The end of a decoder: a linear layer, which is `linear`, and the likelihood of what it gives."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.linear = nn.Linear(in_features, out_features, bias, device, dtype)

    def forward(self, x: Tensor, input: Tensor, **keywords: Any) -> Tensor:  # type: ignore[override]
        keywords = {**self.keywords(), **keywords, "bias": self.linear.bias}
        log_prob: Tensor = type(self).function(x, input, self.linear.weight, **keywords)
        return log_prob


class LinearBernoulli(_LinearLogProb):
    """`fastvae.linear_bernoulli_log_prob` with the layer's weight and bias, of (x, input), in nats, [*batch].

    Args:
        in_features: H, size of the decoder's last hidden layer.
        out_features: D, size of x.
        bias, device, dtype: of the linear layer, `linear`, which gives the logits.

    Shape:
        x [*, D], input [*, H]: x [B, D] with input [K, B, H] gives [K, B].

    Raises:
        TypeError: `linear_bernoulli_log_prob` has no keyword of that name.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.1.
    """

    function = staticmethod(linear_bernoulli_log_prob)


class LinearGaussian(_LinearLogProb):
    """`fastvae.linear_gaussian_log_prob` with the layer's weight and bias, of (x, input), in nats, [*batch].

    Args:
        in_features: H, size of the decoder's last hidden layer.
        out_features: D, size of x.
        bias, device, dtype: of the linear layer, `linear`, which gives the means.
        log_var: among the keywords; an `nn.Parameter` is learned.

    Shape:
        x [*, D], input [*, H]: x [B, D] with input [K, B, H] gives [K, B].

    Raises:
        TypeError: `linear_gaussian_log_prob` has no keyword of that name.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.2.
    """

    function = staticmethod(linear_gaussian_log_prob)


class LinearMultinomial(_LinearLogProb):
    """`fastvae.linear_multinomial_log_prob` with the layer's weight and bias, of (x, input), in nats, [*batch].

    Args:
        in_features: H, size of the decoder's last hidden layer.
        out_features: how many classes there are.
        bias, device, dtype: of the linear layer, `linear`, which gives the logits.

    Shape:
        x [*, classes], input [*, H]: x [B, classes] with input [K, B, H] gives [K, B].

    Raises:
        TypeError: `linear_multinomial_log_prob` has no keyword of that name.

    Reference:
        Liang et al. 2018, "Variational autoencoders for collaborative filtering", eq. 2.
    """

    function = staticmethod(linear_multinomial_log_prob)
