// classify MODEL.onnx PICTURE.ppm: classes and the place that the network looks at most.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: classify MODEL.onnx PICTURE.ppm");
  Ort::Env env;
  Ort::Session session(env, argv[1], Ort::SessionOptions{});
  Ort::AllocatorWithDefaultOptions allocator;
  const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("abn_fast", allocator);
  if (!text) throw std::runtime_error("no file of abn_fast's");
  const auto metadata = nlohmann::json::parse(text.get());
  const auto seen = metadata.at("preprocessing");
  const auto mean = seen.at("mean").get<std::vector<float>>(), std = seen.at("std").get<std::vector<float>>();
  const auto size = seen.at("image_size").get<std::vector<int64_t>>();
  const int64_t channels = mean.size(), height = size[0], width = size[1], pixels = height * width;

  std::ifstream file(argv[2], std::ios::binary);
  std::string kind;
  int64_t columns = 0, rows = 0, most = 0;
  file >> kind >> columns >> rows >> most;
  file.get();  // the one white space before the pixels
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (kind != (channels == 3 ? "P6" : "P5") || columns != width || rows != height || most != 255 ||
      static_cast<int64_t>(bytes.size()) < channels * pixels)
    throw std::runtime_error("expected a binary PPM of " + std::to_string(width) + "x" + std::to_string(height));

  std::vector<float> images(channels * pixels);  // [1, C, H, W]
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float level = static_cast<uint8_t>(bytes[pixel * channels + channel]) / 255.0f;
      images[channel * pixels + pixel] = (level - mean[channel]) / std[channel];
    }

  const std::array<int64_t, 4> shape{1, channels, height, width};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto input =
      Ort::Value::CreateTensor<float>(memory, images.data(), images.size(), shape.data(), shape.size());
  const char* inputs[] = {"images"};
  const char* outputs[] = {"logits", "attention"};
  const auto results = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 2);

  const float* logits = results[0].GetTensorData<float>();
  const size_t classes = results[0].GetTensorTypeAndShapeInfo().GetElementCount();
  const float highest = *std::max_element(logits, logits + classes);
  float sum = 0;
  for (size_t index = 0; index < classes; ++index) sum += std::exp(logits[index] - highest);
  for (size_t index = 0; index < classes; ++index) {
    const auto name = metadata.contains("classes") ? metadata["classes"][index].get<std::string>() : std::to_string(index);
    std::cout << name << ' ' << std::exp(logits[index] - highest) / sum << '\n';
  }
  const float* map = results[1].GetTensorData<float>();
  const auto map_shape = results[1].GetTensorTypeAndShapeInfo().GetShape();  // [1, 1, h, w]
  const int64_t place = std::max_element(map, map + map_shape[2] * map_shape[3]) - map;
  std::cout << "map " << map_shape[2] << 'x' << map_shape[3] << ", highest " << map[place] << " at row "
            << place / map_shape[3] << ", column " << place % map_shape[3] << '\n';
} catch (const std::exception& error) {
  std::cerr << "classify: " << error.what() << '\n';
  return 1;
}
