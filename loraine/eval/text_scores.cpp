// The formulas of rouge_chinese 1.0 and of nltk 3.9, counted in characters and words.
#include "loraine/eval/text_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "loraine/eval/words.h"

namespace loraine {
namespace {

using Words = std::vector<std::u32string>;

double percent(double share) {  // round(100 x, 4) as Python rounds: the decimal nearest to the double
  char text[64];
  std::snprintf(text, sizeof text, "%.4f", share * 100);
  return std::strtod(text, nullptr);
}

bool closes_quote(char32_t c) { return c == U'”' || c == U'’'; }

// Ends of sentences become new lines. Words stand apart, so of rouge_chinese's rules two can hold: a mark and what follows it, and six
// dots.
std::u32string with_sentence_ends(const std::u32string& text) {
  std::u32string marked, dotted;
  for (size_t at = 0; at < text.size();) {
    marked.push_back(text[at]);
    const bool mark = std::u32string_view(U"。！？?").find(text[at]) != std::u32string_view::npos;
    if (mark && at + 1 < text.size() && !closes_quote(text[at + 1])) {
      marked.push_back(U'\n');
      marked.push_back(text[++at]);
    }
    ++at;
  }
  for (size_t at = 0; at < marked.size();) {
    if (marked.compare(at, 6, U"......") == 0 && at + 6 < marked.size() && !closes_quote(marked[at + 6])) {
      dotted += U"......\n";
      dotted.push_back(marked[at + 6]);
      at += 7;
    } else {
      dotted.push_back(marked[at++]);
    }
  }
  return dotted;
}

// Words joined by blanks, cut into sentences, each split at its blanks. A sentence of blanks counts as one empty word.
Words rouge_words(const Words& cut) {
  std::u32string joined;
  for (size_t i = 0; i < cut.size(); ++i) joined += (i ? U" " : U"") + cut[i];
  std::u32string text = with_sentence_ends(joined);
  while (!text.empty() && is_blank(text.back())) text.pop_back();
  Words words;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(U'\n', at), text.size());
    const size_t before = words.size();
    for (size_t i = at; i < end;) {
      size_t stop = i;
      while (stop < end && !is_blank(text[stop])) ++stop;
      if (stop > i) words.push_back(text.substr(i, stop - i));
      i = stop + 1;
    }
    if (end > at && words.size() == before) words.emplace_back();
    at = end + 1;
  }
  return words;
}

double f_score(size_t overlap, size_t predicted, size_t reference) {
  const double precision = predicted ? static_cast<double>(overlap) / static_cast<double>(predicted) : 0;
  const double recall = reference ? static_cast<double>(overlap) / static_cast<double>(reference) : 0;
  return 2.0 * ((precision * recall) / (precision + recall + 1e-8));
}

std::set<Words> n_grams(const Words& words, size_t n) {
  std::set<Words> grams;
  for (size_t i = 0; i + n <= words.size(); ++i)
    grams.emplace(words.begin() + static_cast<ptrdiff_t>(i), words.begin() + static_cast<ptrdiff_t>(i + n));
  return grams;
}

double rouge_n(const Words& predicted, const Words& reference, size_t n) {
  const std::set<Words> ours = n_grams(predicted, n), theirs = n_grams(reference, n);
  const auto overlap = std::ranges::count_if(ours, [&](const Words& gram) { return theirs.contains(gram); });
  return f_score(static_cast<size_t>(overlap), ours.size(), theirs.size());
}

double rouge_l(const Words& predicted, const Words& reference) {
  std::vector<size_t> before(predicted.size() + 1), now(predicted.size() + 1);
  for (const std::u32string& word : reference) {
    for (size_t j = 1; j <= predicted.size(); ++j) now[j] = word == predicted[j - 1] ? before[j - 1] + 1 : std::max(before[j], now[j - 1]);
    std::swap(before, now);
  }
  return f_score(before.back(), predicted.size(), reference.size());
}

// Papineni et al. 2002, one reference. Orders without a match count 1 / 2^k matches, k = 1, 2, … (NIST's geometric smoothing).
double bleu_4(const std::u32string& predicted, const std::u32string& reference) {
  double log_sum = 0;
  int unmatched = 0;
  for (size_t n = 1; n <= 4; ++n) {
    std::map<std::u32string, int64_t> counts;
    int64_t matches = 0, all = 0;
    for (size_t i = 0; i + n <= reference.size(); ++i) ++counts[reference.substr(i, n)];
    for (size_t i = 0; i + n <= predicted.size(); ++i, ++all) {
      const auto left = counts.find(predicted.substr(i, n));
      if (left != counts.end() && left->second-- > 0) ++matches;
    }
    if (n == 1 && matches == 0) return 0;
    const double found = matches > 0 ? static_cast<double>(matches) : std::pow(0.5, ++unmatched);
    log_sum += 0.25 * std::log(found / static_cast<double>(std::max<int64_t>(all, 1)));
  }
  const double ours = static_cast<double>(predicted.size()), theirs = static_cast<double>(reference.size());
  return (ours > theirs ? 1 : std::exp(1 - theirs / ours)) * std::exp(log_sum);
}

bool only_blanks(const Words& words) {
  return std::ranges::all_of(words, [](const std::u32string& word) { return std::ranges::all_of(word, is_blank); });
}

}  // namespace

TextScores score_text(std::string_view predicted_text, std::string_view reference_text) {
  const std::u32string predicted = to_characters(predicted_text), reference = to_characters(reference_text);
  TextScores scores;
  scores.bleu_4 = percent(bleu_4(predicted, reference));
  const Words ours = cut_words(predicted), theirs = cut_words(reference);
  if (only_blanks(ours) || only_blanks(theirs)) return scores;
  const Words predicted_words = rouge_words(ours), reference_words = rouge_words(theirs);
  scores.rouge_1 = percent(rouge_n(predicted_words, reference_words, 1));
  scores.rouge_2 = percent(rouge_n(predicted_words, reference_words, 2));
  scores.rouge_l = percent(rouge_l(predicted_words, reference_words));
  return scores;
}

}  // namespace loraine
