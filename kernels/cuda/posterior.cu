// q(z|x): its formulas in every reading of the scale, float and double.
#include "../math/posterior.h"
#include "families.h"

namespace fastvae::FASTVAE_ISA {

void add_posterior(Table& table) {
  add_scaled<Rsample, Sampling::noise>(table, Formula::rsample);
  add_scaled<KlStandardNormal>(table, Formula::kl_standard_normal);
  add_scaled<KlNormal>(table, Formula::kl_normal);
  add_scaled<RsampleKl, Sampling::noise>(table, Formula::rsample_kl);
}

}  // namespace fastvae::FASTVAE_ISA
