// decoder.onnx and latents -> a PNG file, with ONNX Runtime's C++ API and libpng.
//
// apt install cmake g++ libonnxruntime-dev libpng-dev      # Debian 13; elsewhere see below
// cmake -B build && cmake --build build
// build/decode ../../models/mnist/decoder.onnx digit.png   # from N(0, 1) noise
// build/decode ../../models/notebook/decoder.onnx digit.png "-1.0,1.0,0.1,0.3,-0.2,0.7,-0.5,-2.5"
//
// Where no package has ONNX Runtime's headers, unpack a release from its GitHub page:
// cmake -B build -DCMAKE_PREFIX_PATH=$PWD/onnxruntime-linux-x64-1.22.0 && cmake --build build

#include <onnxruntime_cxx_api.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

std::vector<float> noise(std::size_t count) {
    std::mt19937 generator{std::random_device{}()};
    std::normal_distribution<float> normal;
    std::vector<float> z(count);
    std::generate(z.begin(), z.end(), [&] { return normal(generator); });
    return z;
}

std::vector<float> numbers(const std::string& text) {
    std::vector<float> values;
    std::istringstream stream(text);
    for (float value; stream >> value; stream.ignore(1)) values.push_back(value);  // and the comma after it
    return values;
}

void write_png(const char* path, const std::vector<std::uint8_t>& pixels, const std::vector<std::int64_t>& shape) {
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    png.height = static_cast<png_uint_32>(shape[2]);
    png.width = static_cast<png_uint_32>(shape[3]);
    png.format = shape[1] == 1 ? PNG_FORMAT_GRAY : shape[1] == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA;
    if (!png_image_write_to_file(&png, path, 0, pixels.data(), 0, nullptr)) throw std::runtime_error(png.message);
}

int main(int count, char** arguments) try {
    if (count < 3) throw std::invalid_argument("usage: decode decoder.onnx picture.png [\"z,z,...\"]");
    Ort::Env environment;
    Ort::Session decoder(environment, std::filesystem::path(arguments[1]).c_str(), Ort::SessionOptions{});

    const std::int64_t latent_dim = decoder.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape()[1];
    std::vector<float> z = count > 3 ? numbers(arguments[3]) : noise(latent_dim);
    const std::int64_t z_shape[] = {1, static_cast<std::int64_t>(z.size())};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto input = Ort::Value::CreateTensor<float>(memory, z.data(), z.size(), z_shape, 2);
    const char* const inputs[] = {"z"};
    const char* const outputs[] = {"image"};
    const auto image = std::move(decoder.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1).front());

    // [1, channels, height, width] in [0, 1] -> bytes, the channels of a pixel side by side.
    const std::vector<std::int64_t> shape = image.GetTensorTypeAndShapeInfo().GetShape();
    const float* values = image.GetTensorData<float>();
    const std::int64_t channels = shape[1], area = shape[2] * shape[3];
    std::vector<std::uint8_t> pixels(channels * area);
    for (std::int64_t channel = 0; channel < channels; ++channel)
        for (std::int64_t pixel = 0; pixel < area; ++pixel) {
            const float value = std::clamp(values[channel * area + pixel], 0.0f, 1.0f);
            pixels[pixel * channels + channel] = static_cast<std::uint8_t>(std::floor(value * 255 + 0.5f));
        }
    write_png(arguments[2], pixels, shape);
} catch (const std::exception& error) {
    std::cerr << "decode: " << error.what() << '\n';
    return 1;
}
