// q(z|x): the backward formulas. A file of its own, since these take longest to compile.
#include "../math/posterior.h"
#include "families.h"

namespace fastvae::FASTVAE_ISA {

void add_posterior_backward(Table& table) {
  add_scaled<RsampleBackward, Sampling::gradient>(table, Formula::rsample_backward);
  add_scaled<KlStandardNormalBackward>(table, Formula::kl_standard_normal_backward);
  add_scaled<KlNormalBackward>(table, Formula::kl_normal_backward);
  add_scaled<RsampleKlBackward, Sampling::gradient>(table, Formula::rsample_kl_backward);
}

}  // namespace fastvae::FASTVAE_ISA
