// A group of weights in HQQ's solver: one step of it, and its codes. Called by quant/hqq, group after group.
#pragma once
#include <cstdint>

namespace loraine {

// A group and how it is rounded: the code of x is q = round(x · inverse_scale + zero), within 0 and `top`, and stands for
// (q − zero) / inverse_scale.
struct RoundedGroup {
  const float* x;
  int64_t n;
  float inverse_scale, zero, top;
};

// Returns Σ |x − r| of what the codes stand for, r, and sets next_zero to the mean of q − (x − e) · inverse_scale, where e is x − r shrunk
// by |x − r|^(power − 1) / beta towards 0 (and 0 where that crosses it).
float half_quadratic_step(float& next_zero, const RoundedGroup& group, float beta, float power);
void group_codes(uint8_t* codes, const RoundedGroup& group);

}  // namespace loraine
