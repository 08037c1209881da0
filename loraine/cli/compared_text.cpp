// The sample texts, cut to as many tokens as are worth their time.
#include "loraine/cli/compared_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/api/open_text.h"
#include "loraine/export/sample_text.h"

namespace loraine {

ComparedText compared_text(const ModelFiles& files, const Model& model) {
  ComparedText text;
  const int64_t each = compared_tokens(model) / static_cast<int64_t>(std::size(kSampleText));
  size_t tokens = 0;
  if (const ModelText own = open_text(files); own.tokenizer)
    for (const char* sample : kSampleText) {
      std::vector<int32_t> ids = own.tokenizer->encode(sample, true);
      std::erase_if(ids, [&](int32_t id) { return id < 0 || id >= model.config.vocab_size; });
      ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(each)));
      tokens += ids.size();
      text.ids.push_back(std::move(ids));
    }
  if (tokens >= 8) return text;
  text.made_up = true;
  text.ids.assign(2, {});
  for (int64_t i = 0; i < 24; ++i)
    text.ids[static_cast<size_t>(i / 12)].push_back(static_cast<int32_t>((i * 7919 + 3) % model.config.vocab_size));
  return text;
}

std::string divergence_text(const Divergence& d) {
  return d.finite ? fmt::format("mean KL {:.2g}, the same first token {:.1f} %", d.mean_kl, 100 * d.same_first)
                  : std::string("not finite numbers");
}

}  // namespace loraine
