// See scores_form.h.
#include "loraine/serve/protocol/scores_form.h"

#include <fmt/format.h>

#include "loraine/serve/protocol/asked.h"

namespace loraine {
namespace {

constexpr size_t kMostScored = 2048;

}  // namespace

AskedScores read_scores(const WireJson& body, bool strict) {
  Fields fields(body);
  AskedScores asked;
  asked.model = fields.text("model", 512).value_or("");
  const WireJson* texts = fields.array("messages", kMostScored);
  if (!texts || texts->empty()) fields.fail("messages", fmt::format("a list of 1 to {} texts", kMostScored));
  for (const WireJson& one : *texts) {
    if (!one.is_string() || one.get_ref<const std::string&>().empty()) fields.fail("messages", "texts, none of them empty");
    asked.texts.push_back(one.get<std::string>());
  }
  asked.max_length = fields.integer("max_length", 1, INT64_MAX);
  asked.ignored = refuse_or_ignore(fields, body, strict);
  return asked;
}

WireJson scores_json(const std::vector<double>& scores, const std::string& model, const std::string& id) {
  return {{"id", id}, {"object", "score.evaluation"}, {"model", model}, {"scores", scores}};
}

}  // namespace loraine
