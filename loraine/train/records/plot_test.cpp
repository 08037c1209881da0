// Plots are files of the right kind with a curve in them; the smoothing follows its formula.
#include "loraine/train/records/plot.h"

#include <cairo.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::plot_test {
namespace {

namespace fs = std::filesystem;

std::string fresh_folder() {
  const std::string path = testing::TempDir() + "/loraine_plot";
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

// Pixels of exactly the curve's colour.
int blue_pixels(const std::string& png) {
  cairo_surface_t* surface = cairo_image_surface_create_from_png(png.c_str());
  EXPECT_EQ(cairo_surface_status(surface), CAIRO_STATUS_SUCCESS);
  int count = 0;
  const int width = cairo_image_surface_get_width(surface), height = cairo_image_surface_get_height(surface);
  const int stride = cairo_image_surface_get_stride(surface);
  EXPECT_EQ(width, 1280);
  EXPECT_EQ(height, 960);
  for (int y = 0; y < height; ++y) {
    const auto* row = reinterpret_cast<const uint32_t*>(cairo_image_surface_get_data(surface) + y * stride);
    for (int x = 0; x < width; ++x) count += (row[x] & 0xffffff) == 0x1f77b4;
  }
  cairo_surface_destroy(surface);
  return count;
}

TEST(Plot, SeveralCurves) {
  const std::string folder = fresh_folder();
  plot_curves(folder + "/many.png", {{"full", {{1, 2, 3}, {3, 2, 1}}}, {"lora rank 8", {{1, 2, 3}, {3, 2.5, 2}}}}, "title", "eval_loss");
  EXPECT_GT(blue_pixels(folder + "/many.png"), 50);
  plot_curves(folder + "/none.svg", {}, "title", "eval_loss");
  EXPECT_TRUE(fs::exists(folder + "/none.svg"));
  EXPECT_THROW(plot_curves(folder + "/x.png", std::vector<NamedCurve>(kMostCurves + 1), "title", "eval_loss"), Error);
}

TEST(Plot, Smooth) {
  const std::vector<double> out = smooth({1.0, 2.0, 4.0});
  const double w = 1.8 * (1 / (1 + std::exp(-0.15)) - 0.5);
  ASSERT_EQ(out.size(), 3u);
  EXPECT_DOUBLE_EQ(out[0], 1.0);
  EXPECT_DOUBLE_EQ(out[1], w * 1.0 + (1 - w) * 2.0);
  EXPECT_DOUBLE_EQ(out[2], w * out[1] + (1 - w) * 4.0);
  EXPECT_TRUE(smooth({}).empty());
}

TEST(Plot, WritesPngAndSvgOfWhatWasLogged) {
  const std::string folder = fresh_folder();
  std::vector<OrderedJson> log;
  for (int step = 1; step <= 200; ++step) {
    log.push_back({{"loss", 1.2 + 4 * std::exp(-step / 40.0) + 0.25 * std::sin(step * 7.3)}, {"step", step}});
    if (step % 20 == 0)
      log.push_back({{"eval_loss", 1.3 + 3.8 * std::exp(-step / 40.0)}, {"eval_accuracy", 1 - std::exp(-step / 90.0)}, {"step", step}});
  }
  const std::vector<std::string> names = plot_training(folder, folder, log);
  EXPECT_EQ(names, (std::vector<std::string>{"training_loss.png", "training_loss.svg", "training_eval_loss.png", "training_eval_loss.svg",
                                             "training_eval_accuracy.png", "training_eval_accuracy.svg"}));
  for (const std::string& name : names) {
    if (name.ends_with(".png")) {
      EXPECT_GT(blue_pixels(folder + "/" + name), 1000) << name;
    } else {
      EXPECT_NE(read_file(folder + "/" + name).find("</svg>"), std::string::npos) << name;
    }
  }
  EXPECT_EQ(curve_of(log, "loss").values.size(), 200u);
  const size_t evaluations = curve_of(log, "eval_loss").steps.size();
  log.push_back({{"eval_loss", 9.0}, {"step", 200}});  // that of the finished run
  EXPECT_EQ(curve_of(log, "eval_loss").steps.size(), evaluations);
  EXPECT_LT(curve_of(log, "eval_loss").values.back(), 2);
  EXPECT_TRUE(plot_training(folder, folder, {}).empty());
}

TEST(Plot, OddValues) {
  const std::string folder = fresh_folder();
  const double nan = std::nan("");
  plot_curve(folder + "/one.png", {{5}, {2.5}}, "one", "loss");
  EXPECT_GT(blue_pixels(folder + "/one.png"), 20);
  plot_curve(folder + "/nan.png", {{1, 2, 3, 4, 5}, {1, nan, 2, INFINITY, 3}}, "gaps", "loss");
  plot_curve(folder + "/only_nan.png", {{1, 2}, {nan, nan}}, "nothing to see", "loss");
  EXPECT_LT(blue_pixels(folder + "/only_nan.png"), blue_pixels(folder + "/nan.png"));
  plot_curve(folder + "/large.svg", {{1, 1000000}, {1e-9, 1e300}}, "bad \xff\xe0\x80 bytes " + std::string(500, 'x'), "loss");
  plot_curve(folder + "/constant.png", {{1, 2, 3}, {0, 0, 0}}, "constant", "loss");
  EXPECT_THROW(plot_curve(folder + "/x.gif", {{1}, {1}}, "", ""), Error);
  EXPECT_THROW(plot_curve(folder + "/absent/x.png", {{1}, {1}}, "", ""), Error);
}

TEST(Plot, RanksOverTime) {
  const std::string folder = fresh_folder();
  RankMap map;
  map.most = 8;
  map.last_step = 100;
  for (int layer = 0; layer < 12; ++layer)
    for (const char* name : {"self_attn.q_proj", "mlp.down_proj"})
      map.modules.push_back("model.layers." + std::to_string(layer) + "." + name);
  for (int64_t step : {0, 20, 60}) {
    map.steps.push_back(step);
    map.ranks.emplace_back(map.modules.size(), 8 - step / 10);
  }
  EXPECT_EQ(plot_ranks(folder, folder, map), (std::vector<std::string>{"training_ranks.png", "training_ranks.svg"}));
  const std::string svg = read_file(folder + "/training_ranks.svg"), png = read_file(folder + "/training_ranks.png");
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  map.ranks[2][3] = 8;  // one module keeps its ranks
  plot_ranks(folder, folder, map);
  EXPECT_NE(read_file(folder + "/training_ranks.png"), png);
  map.steps.resize(1);  // nothing was cut, of a model of many layers
  for (int layer = 12; layer < 200; ++layer) map.modules.push_back("model.layers." + std::to_string(layer) + ".mlp.up_proj");
  map.ranks = {std::vector<int64_t>(map.modules.size(), 8)};
  plot_ranks(folder, folder, map);
  EXPECT_NE(read_file(folder + "/training_ranks.svg"), svg);
}

}  // namespace
}  // namespace loraine::plot_test
