// What a walk through a model layer by layer needs beside decoder.h and layer.h. Called by export.
#pragma once
#include "loraine/model/decoder.h"

namespace loraine {

// The residual stream before the first layer: fills activations.layers[0][0].x (and `stream`, where there is one).
void embed_tokens(Context& ctx, const Model& model, const Batch& batch, Pass& pass);

// Within Pass::before_site alone: the rows x [T, in] that the product of the site takes.
const Tensor& site_input();

}  // namespace loraine
