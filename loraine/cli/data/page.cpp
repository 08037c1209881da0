// The report as one HTML page that needs nothing else. See report.h.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/cli/data/marks.h"
#include "loraine/cli/data/report.h"
#include "loraine/core/count_text.h"

namespace loraine {
namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse}td{padding:.1em 1em .1em 0}td+td{text-align:right}"
    ".bar{display:inline-block;height:.8em;background:#4a8;vertical-align:middle}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f6f4;padding:.8em;border-radius:4px}"
    ".t{background:#cdebd6}.s{color:#888}.c{background:#f6d3cf;text-decoration:line-through}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}pre{background:#262626}.t{background:#1e5234}.c{background:#"
    "6b2a24}}";

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::string row(const char* name, int64_t count) { return fmt::format("<tr><td>{}</td><td>{}</td></tr>", name, count_text(count)); }

std::string lengths_table(const Inspection& found) {
  int64_t most = 1;
  for (const LengthBin& bin : found.lengths) most = std::max(most, bin.count);
  std::string out = "<table>";
  for (const LengthBin& bin : found.lengths)
    out += fmt::format(
        "<tr><td>{} to {} tokens</td><td style=\"text-align:left\"><span class=\"bar\" style=\"width:{}px\"></span> {}</td></tr>", bin.from,
        bin.to, bin.count * 300 / most, count_text(bin.count));
  return out + "</table>";
}

std::string marked_html(const MarkedTokens& tokens, const Tokenizer* tokenizer) {
  std::string out;
  for (const Stretch& stretch : tokens.stretches) {
    const char* mark = stretch.mark == Mark::trained ? "t" : stretch.mark == Mark::cut ? "c" : "p";
    out += fmt::format("<span class=\"{}{}\">{}</span>", mark, stretch.special ? " s" : "",
                       escaped(plain_letters(text_between(tokens.ids, stretch, tokenizer))));
  }
  return out;
}

}  // namespace

std::string DataReport::page() const {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">";
  out += fmt::format("<title>loraine data</title><style>{}</style></head><body>\n<h1>Data as training sees them</h1><p>{}</p>\n", kStyle,
                     escaped(heading));
  out +=
      "<p>Tokens that are <span class=\"t\">trained</span>, of the prompt, <span class=\"s\">special</span>, <span "
      "class=\"c\">cut</span>.</p>\n";
  for (const auto& [name, set] : sets_of(data)) {
    const Inspection found = inspect(*set, special);
    out += fmt::format("<h2>{}</h2><table>{}{}{}{}{}{}{}{}</table>\n", escaped(name), row("examples", static_cast<int64_t>(set->size())),
                       row("samples", found.samples), row("tokens", set->num_tokens), row("trained tokens", set->num_trained),
                       row("shortest", found.shortest), row("median", found.median), row("longest", found.longest),
                       row("dropped", set->num_dropped));
    std::string list;
    for (const std::string& line : remarks(*set, found, *this)) list += "<li>" + escaped(line) + "</li>";
    for (const std::string& line : set->dropped_rows) list += "<li>dropped: " + escaped(line) + "</li>";
    if (!list.empty()) out += "<ul>" + list + "</ul>\n";
    out += lengths_table(found);
    const auto show = [&](const std::string& what, const Example& example, const WholeSample* whole) {
      out += fmt::format("<h3>{}</h3><pre>{}</pre>\n", what, marked_html(marked_tokens(example, whole, tokenizer), tokenizer));
      if (ids)
        out += fmt::format("<details><summary>ids and labels</summary><pre>{}\n{}</pre></details>\n", fmt::join(example.input_ids, " "),
                           fmt::join(example.labels, " "));
    };
    const auto most = static_cast<size_t>(std::max<int64_t>(examples, 0));
    for (size_t i = 0; i < std::min(set->examples.size(), most); ++i)
      show(fmt::format("Example {}", i + 1), set->examples[i], i < set->whole_samples.size() ? &set->whole_samples[i] : nullptr);
    for (size_t i = 0; i < std::min(set->pairs.size(), most); ++i) {
      show(fmt::format("Pair {}, chosen", i + 1), set->pairs[i].chosen, nullptr);
      show(fmt::format("Pair {}, rejected", i + 1), set->pairs[i].rejected, nullptr);
    }
    for (size_t i = 0; i < std::min(set->feedback.size(), most); ++i)
      show(fmt::format("Example {}, {}", i + 1, set->feedback[i].desirable ? "desirable" : "undesirable"), set->feedback[i].example,
           nullptr);
    for (size_t i = 0; i < std::min(set->decisions.size(), most); ++i) {
      const DecisionExample& one = set->decisions[i];
      show(escaped(fmt::format("Question {}, answered with {}", i + 1, one.choices->names[static_cast<size_t>(one.label)])),
           one.samples.front(), nullptr);
    }
  }
  return out + "</body></html>\n";
}

}  // namespace loraine
