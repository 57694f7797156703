// q(z|x): its formulas in every reading of the scale, float and double.
#include "../math/posterior.h"

#include "families.h"

namespace fastvae::FASTVAE_ISA {

void add_posterior(Table& table) {
  add_scaled<Rsample>(table, Formula::rsample);
  add_scaled<RsampleBackward>(table, Formula::rsample_backward);
  add_scaled<KlStandardNormal>(table, Formula::kl_standard_normal);
  add_scaled<KlStandardNormalBackward>(table, Formula::kl_standard_normal_backward);
  add_scaled<KlNormal>(table, Formula::kl_normal);
  add_scaled<KlNormalBackward>(table, Formula::kl_normal_backward);
  add_scaled<RsampleKl>(table, Formula::rsample_kl);
  add_scaled<RsampleKlBackward>(table, Formula::rsample_kl_backward);
}

}  // namespace fastvae::FASTVAE_ISA
