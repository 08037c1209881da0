// Adafactor (Shazeer & Stern 2018): the squares of the gradient of a matrix are kept as means of its rows and columns. Also AdaLomo's.
#pragma once
#include "loraine/core/context.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {

struct Adafactor {
  double decay_rate = -0.8;     // the share of what was is 1 − step^decay_rate
  double clip = 1;              // the root mean square of an update is at most this
  double epsilon = 1e-30;       // added to the squares
  double least_scale = 1e-3;    // with scale_by_value
  bool scale_by_value = false;  // the rate is multiplied by the root mean square of the parameter, at least least_scale
};
// A matrix [rows, cols] has row [rows] and col [cols], matrices in one tensor [E, rows, cols] (of experts) row [E, rows] and col [E, cols];
// a vector has `square` of its size, and the other two without data. `direction` is scratch of the parameter's size. direction = g / √v
// with v = row colᵀ / mean(row); it is clipped; p −= rate · decay · p; p −= rate · direction.
void adafactor(Context& ctx, const Update& u, const Tensor& row, const Tensor& col, const Tensor& square, const Tensor& direction,
               const Adafactor& options);
// The same up to the direction, times its clip: for GaLore, which takes it back to the parameter's space first.
void adafactor_direction(Context& ctx, const Update& u, const Tensor& row, const Tensor& col, const Tensor& square, const Tensor& direction,
                         const Adafactor& options);

}  // namespace loraine
