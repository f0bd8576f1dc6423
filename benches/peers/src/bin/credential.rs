//! A credential plugin as kubectl and kube-client run them: asks the URL that it is given and prints the `ExecCredential`.

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    process::ExitCode,
};

fn main() -> ExitCode {
    match env::args().nth(1).ok_or_else(|| "no URL".to_owned()).and_then(|url| ask(&url)) {
        Ok(credential) => {
            println!("{credential}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn ask(url: &str) -> Result<String, String> {
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("no http URL")?;
    let mut stream = TcpStream::connect(host).map_err(|error| error.to_string())?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut response = String::new();
    stream.read_to_string(&mut response).map_err(|error| error.to_string())?;
    let (_, body) = response.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.to_owned())
}
