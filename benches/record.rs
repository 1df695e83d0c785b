//! What one record costs on its way from the engine to a sink: encode, parse, decode, write; or to Falco: parse and
//! translate.
//!
//! `cargo bench --bench record`. Elements per second are records per second on one core.

mod shapes;

use std::{hint::black_box, io};

use creance::{
    event::{CaptureBuffer, Record},
    falco::Batch,
    limits,
    sink::{Json, Sink, Text},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shapes::{Shape, decoder, parsed, translator};

fn records(criterion: &mut Criterion) {
    for shape in Shape::all() {
        let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
        let mut target = vec![0; limits::RECORD_BYTES_MAX];
        let bytes = shape.encode(&mut buffer, &mut target).to_vec();
        let mut decoder = decoder();

        let mut group = criterion.benchmark_group(shape.name);
        group.throughput(Throughput::Elements(1));
        group.bench_function("encode", |bench| {
            bench.iter(|| shape.encode(&mut buffer, black_box(&mut target)).len());
        });
        group.bench_function("parse", |bench| {
            bench.iter(|| Record::parse(black_box(&bytes)).expect("a record").header().sequence);
        });
        group.bench_function("parse and decode", |bench| {
            bench.iter(|| decoder.decode(&parsed(&bytes)).arguments().len());
        });
        let mut translator = translator();
        let mut batch = Batch::with_capacity(limits::PLUGIN_BATCH_BYTES);
        group.bench_function("parse and translate for Falco", |bench| {
            bench.iter(|| {
                if batch.is_full() {
                    batch.clear();
                }
                translator.translate(&parsed(&bytes), &mut batch);
                batch.len()
            });
        });
        assert_eq!(translator.events_refused(), 0, "{:?}", translator.last_error());
        group.bench_function("parse, decode and write text", |bench| {
            let mut sink = Text::new(io::sink(), false);
            bench.iter(|| sink.event(&decoder.decode(&parsed(&bytes))));
        });
        group.bench_function("parse, decode and write JSON", |bench| {
            let mut sink = Json::new(io::sink());
            bench.iter(|| sink.event(&decoder.decode(&parsed(&bytes))));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(4));
    targets = records
}
criterion_main!(benches);
