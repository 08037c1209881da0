// Figures with confidence intervals: what evaluation hands back, and the tables that compare models. Used by the files of eval/ and
// cli/eval.
#pragma once
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace loraine {

using OrderedJson = nlohmann::ordered_json;

// Σ sums / Σ weights over units drawn alike (batches, questions, windows of a text), times scale; exp of the quotient for a perplexity.
struct Figure {
  std::string name;
  std::vector<double> sums, weights;
  double scale = 1;
  bool exponential = false;
  double lowest = -std::numeric_limits<double>::infinity();  // what the figure can be: its intervals end there
  double highest = std::numeric_limits<double>::infinity();
  bool proportion = false;  // the sums are 0 or 1: Wilson's interval, which holds near 0 and 1 too

  void add(double sum, double weight = 1) {
    sums.push_back(sum);
    weights.push_back(weight);
  }
};

struct Interval {
  double low = 0, high = 0;
};

double value_of(const Figure& figure);
// 95 %: 1.96 standard errors of the quotient (linearised), units taken as independent. Nothing below two units.
std::optional<Interval> interval_of(const Figure& figure);
// Of value_of(a) − value_of(b) for the same units in the same order: what both share falls out.
std::optional<Interval> interval_of_difference(const Figure& a, const Figure& b);

struct EvalResult {  // of one model
  std::string name;
  OrderedJson metrics = OrderedJson::object();
  std::vector<Figure> figures;
  std::vector<std::pair<std::string, std::string>> files;  // name and content: predictions, answers
  std::vector<std::string> warnings;
};

// Adds the figure's value to the metrics too.
void add_figure(EvalResult& result, Figure figure);

OrderedJson intervals_json(const EvalResult& result);                 // name → [low, high]
OrderedJson comparison_json(const std::vector<EvalResult>& results);  // differences are to the first
// Heading and one row per figure and model: figure, model, value, interval, difference to the first model, its interval.
std::vector<std::vector<std::string>> comparison_rows(const std::vector<EvalResult>& results);
std::string markdown_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace loraine
